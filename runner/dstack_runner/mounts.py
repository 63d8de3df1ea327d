"""Gives the calling process its own view of the machine's files, step by step as decided elsewhere (`isolation.py`);
stdlib only, quick to import.

A view is a list of steps `(kind, target, source, writable)`:
`cover`: a fresh folder in memory over `target`, `source` its mode; `bind`: `source` shows at `target`; `link`: a
symbolic link at `target` to `source`. Sources are the files as they were before the first step.
"""

# Importing pathlib would cost each launch five milliseconds.
# ruff: noqa: PTH103, PTH110, PTH112, PTH120, PTH211

from __future__ import annotations

import os

from dstack_runner import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    Step = tuple[str, str, str, bool]

COVER, BIND, LINK = "cover", "bind", "link"


def enter(view: Sequence[Step]) -> None:
    """Leave the machine's mounts and shared memory for our own, and take the steps. Raises OSError naming the path."""
    kernel.unshare(kernel.CLONE_NEWNS | kernel.CLONE_NEWIPC)
    # Slave: what the machine mounts later still shows up here, what is mounted here stays here.
    kernel.mount("none", "/", "", kernel.MS_REC | kernel.MS_SLAVE)
    sources = {source: os.open(source, os.O_PATH | os.O_CLOEXEC) for kind, _, source, _ in view if kind == BIND}
    for kind, target, source, writable in view:
        if kind == COVER:
            _make_folder(target)
            kernel.mount("tmpfs", target, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, f"mode={source}")
        elif kind == LINK:
            _make_folder(os.path.dirname(target))
            os.symlink(source, target)
        else:
            _bind(sources[source], source, target, writable)
    for descriptor in sources.values():
        os.close(descriptor)


def _bind(descriptor: int, source: str, target: str, writable: bool) -> None:
    if os.path.isdir(f"/proc/self/fd/{descriptor}"):
        _make_folder(target)
    elif not os.path.exists(target):
        _make_folder(os.path.dirname(target))
        os.close(os.open(target, os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644))
    kernel.mount(f"/proc/self/fd/{descriptor}", target, "", kernel.MS_BIND | kernel.MS_REC)
    if not writable:
        flags = kernel.MS_BIND | kernel.MS_REMOUNT | kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV
        kernel.mount("none", target, "", flags)


def _make_folder(path: str) -> None:
    os.makedirs(path, mode=0o755, exist_ok=True)
