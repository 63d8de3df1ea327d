"""Folders that outlive a job (`cache:` of a workflow), one per repo, trust and path: what untrusted code writes,
trusted code never reads.

One attempt holds a cache at a time; another that starts meanwhile begins with an empty one, so that two jobs never see
each other's half-written files.
"""

from __future__ import annotations

import posixpath
import threading
from collections.abc import Callable
from pathlib import Path

from dstack.errors import Invalid
from dstack_runner.session import short_key


def home_path(path: str) -> str:
    """The place of a cache below the job's home: `~/.cache/x` and `.cache/x` are one. Raises Invalid."""
    relative = posixpath.normpath(path.removeprefix("~/"))
    if not path or path.startswith("/") or relative in (".", "~") or relative.startswith("..") or "\0" in path:
        raise Invalid(f"cache: {path!r} is not a folder below the home", "it reads like ~/.cache/huggingface")
    return relative


class Caches:
    """Cache folders under `root`."""

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(parents=True, exist_ok=True, mode=0o711)
        self._guard = threading.Lock()
        self._holders: dict[Path, str] = {}

    def lend(self, attempt: str, repo: str, trusted: bool, path: str, home: Path, own: Callable[[Path], Path]) -> bool:
        """Show the cache for `path` in the job's home, belonging to the job; False when another attempt has it."""
        relative = home_path(path)
        folder = self._root / short_key(repo, "trusted" if trusted else "untrusted", relative)
        with self._guard:
            if self._holders.setdefault(folder, attempt) != attempt:
                return False
        folder.mkdir(exist_ok=True, mode=0o700)
        own(folder)
        place = home / relative
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(folder)
        return True

    def held(self, attempt: str) -> tuple[Path, ...]:
        """The folders an attempt holds."""
        with self._guard:
            return tuple(folder for folder, holder in self._holders.items() if holder == attempt)

    def give_back(self, attempt: str) -> None:
        with self._guard:
            for folder in [folder for folder, holder in self._holders.items() if holder == attempt]:
                del self._holders[folder]
