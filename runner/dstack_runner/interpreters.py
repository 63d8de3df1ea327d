"""Finds the Pythons of this machine; asks uv once per version and remembers."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

from dstack.errors import Invalid
from dstack_runner import argv
from dstack_runner.jobvenv import Interpreter

_ASK = "import sys, platform; print(sys._base_executable, sys.base_prefix, platform.python_version(), sep='\\n')"
_VERSION = re.compile(r"[0-9<>=!~.,* a-z@+-]{1,60}")
FIND_S = 30.0


def own_interpreter() -> Interpreter:
    """The Python that runs the runner, outside its virtual environment."""
    executable = getattr(sys, "_base_executable", "") or sys.executable
    version = ".".join(str(part) for part in sys.version_info[:3])
    return Interpreter(Path(os.path.realpath(executable)), Path(sys.base_prefix), version)


class Interpreters:
    def __init__(self, uv: Path) -> None:
        self._uv = uv
        self._found: dict[str, Interpreter] = {}
        self._guard = threading.Lock()

    def find(self, version: str | None) -> Interpreter:
        """The interpreter for a job's `version` (None: the runner's own). Raises Invalid when there is none here."""
        own = own_interpreter()
        wanted = (version or "").strip()
        if not wanted or wanted == own.version or own.version.startswith(wanted + "."):
            return own
        with self._guard:
            if wanted not in self._found:
                self._found[wanted] = self._search(wanted, own)
            return self._found[wanted]

    def _search(self, wanted: str, own: Interpreter) -> Interpreter:
        hint = f"install it on the runner's machine, or ask for {own.minor}, which it has"
        if not _VERSION.fullmatch(wanted) or wanted.startswith("-"):
            raise Invalid(f"{wanted!r} is not a Python version", "it reads like 3.12 or '>=3.11'")
        clean = {name: os.environ[name] for name in ("PATH", "HOME", "UV_PYTHON_INSTALL_DIR") if name in os.environ}
        try:
            found = subprocess.run(
                argv.uv_find(str(self._uv), wanted), env=clean, capture_output=True, text=True, timeout=FIND_S
            )
            path = found.stdout.strip()
            if found.returncode != 0 or not path:
                raise Invalid(f"Python {wanted} is not on this machine", hint)
            asked = subprocess.run(
                [path, "-I", "-c", _ASK], env=clean, capture_output=True, text=True, timeout=FIND_S, check=True
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise Invalid(f"Python {wanted} cannot be used on this machine: {error}", hint) from None
        executable, prefix, version = asked.stdout.strip().splitlines()
        return Interpreter(Path(os.path.realpath(executable)), Path(prefix), version)
