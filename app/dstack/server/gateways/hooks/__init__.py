"""The server's own hooks for pushes: written out at start, named to git by `core.hooksPath` in each push's environment.

A repository on disk carries no hooks, and a machine-wide `core.hooksPath` cannot silence these.
"""

from __future__ import annotations

import os
from pathlib import Path

from dstack.errors import Unavailable

_HINT = "mount it without noexec, or choose another folder for the server's data"
HOOKS = ("pre-receive", "post-receive")


def write_hooks(folder: Path) -> Path:
    """Write the hooks into `folder` (made when missing), replacing older ones whole; safe while pushes run.
    Raises Unavailable where git would pass over them in silence."""
    text = Path(__file__).with_name("ask.sh").read_text()
    folder.mkdir(parents=True, exist_ok=True)
    for name in HOOKS:
        fresh = folder / f".{name}.new"
        fresh.write_text(text)
        fresh.chmod(0o755)
        fresh.replace(folder / name)
        if not os.access(folder / name, os.X_OK):
            raise Unavailable(
                f"{folder} is on a file system that runs no programs, so pushes could not be checked", _HINT
            )
    return folder
