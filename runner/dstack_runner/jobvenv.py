"""Makes a job's own Python environment in milliseconds: its own `bin` and `site-packages`, reading those of a base.

What the job installs or breaks stays in its own folder; the base is never written.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_SKIPPED = ("activate", "Activate", "deactivate", "python", "pydoc")
_PIP = """#!/bin/sh
# uv installs into this environment; there is no pip in it unless the requirements ask for one
exec uv pip "$@"
"""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python of this machine that is not itself a virtual environment."""

    executable: Path
    prefix: Path
    version: str  # "3.11.7"

    @property
    def minor(self) -> str:
        return ".".join(self.version.split(".")[:2])


def site_packages(folder: Path, interpreter: Interpreter) -> Path:
    return folder / "lib" / f"python{interpreter.minor}" / "site-packages"


def make_venv(folder: Path, interpreter: Interpreter, *, base: Path | None, uv: Path | None) -> None:
    """Write the environment into the new `folder`. `base` is the environment whose packages it sees."""
    packages = site_packages(folder, interpreter)
    packages.mkdir(parents=True)
    commands = folder / "bin"
    commands.mkdir()
    (folder / "pyvenv.cfg").write_text(
        f"home = {interpreter.executable.parent}\nimplementation = CPython\n"
        f"version_info = {interpreter.version}\ninclude-system-site-packages = false\n"
    )
    for name in ("python", "python3", f"python{interpreter.minor}"):
        (commands / name).symlink_to(interpreter.executable)
    if uv is not None:
        (commands / "uv").symlink_to(uv)
        (commands / "pip").write_text(_PIP)
        (commands / "pip").chmod(0o755)
    if base is not None:
        reads = str(site_packages(base, interpreter))
        (packages / "_dstack_base.pth").write_text(f"import site; site.addsitedir({reads!r})\n")
        _take_over_commands(base / "bin", commands)


def _take_over_commands(base: Path, own: Path) -> None:
    """Commands of the base's packages, run by this environment's Python: scripts with their first line rewritten."""
    old, new = os.fsencode(base / "python"), os.fsencode(own / "python")
    for entry in os.scandir(base):
        if entry.name.startswith(_SKIPPED):
            continue
        target = own / entry.name
        target.unlink(missing_ok=True)
        head = _script_head(entry)
        if head is None:
            target.symlink_to(entry.path)
            continue
        body = Path(entry.path).read_bytes()
        target.write_bytes(head.replace(old, new) + body[len(head) :])
        target.chmod(0o755)


def _script_head(entry: os.DirEntry[str]) -> bytes | None:
    """The first 1 KiB of a script, None for a program (or a link)."""
    if not entry.is_file(follow_symlinks=False):
        return None
    with open(entry.path, "rb") as file:
        head = file.read(1024)
    return head if head.startswith(b"#!") else None
