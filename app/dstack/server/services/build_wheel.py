"""Packs the provider API of the running version into a wheel, so that a custom provider imports exactly this one."""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from functools import cache
from pathlib import Path

import dstack
from dstack.version import __version__

# What `from dstack import ...` and `python -m dstack.providers.run` need: the standard library alone underneath.
_PARTS = ("__init__.py", "version.py", "errors.py", "py.typed", "wire", "providers", "language")
_LEFT_OUT = ("__pycache__",)
WHEEL = f"dstack_ci-{__version__}-py3-none-any.whl"
_EPOCH = (1980, 1, 1, 0, 0, 0)


def wheel_requirement(public_url: str) -> str:
    """The requirement line that installs it from this server. The digest keeps environments of other sources apart."""
    return f"dstack-ci @ {public_url}/wheels/{WHEEL}#sha256={hashlib.sha256(build_wheel()).hexdigest()}"


@cache
def build_wheel() -> bytes:
    """The wheel, packed once. The same sources give the same bytes."""
    files = {f"dstack/{name}": data for name, data in _sources().items()}
    info = f"dstack_ci-{__version__}.dist-info"
    files[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: dstack-ci\nVersion: {__version__}\n".encode()
    files[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: dstack\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    record = "".join(f"{name},sha256={_digest(data)},{len(data)}\n" for name, data in files.items())
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, data in files.items():
            wheel.writestr(zipfile.ZipInfo(name, _EPOCH), data, zipfile.ZIP_DEFLATED)
    return packed.getvalue()


def _sources() -> dict[str, bytes]:
    root = Path(str(dstack.__file__)).parent
    found = {}
    for part in _PARTS:
        path = root / part
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and not set(_LEFT_OUT) & set(file.parts):
                found[file.relative_to(root).as_posix()] = file.read_bytes()
    return found


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
