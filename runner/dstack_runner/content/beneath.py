"""Opens things below a folder without ever following a symbolic link; it knows paths and descriptors, no artifacts.

Every part of a path is opened by the descriptor of the one before, so what a job swaps meanwhile cannot lead outside.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dstack.errors import Invalid

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NOT_A_FOLDER = (errno.ENOTDIR, errno.ELOOP)
_CHANGED = (errno.ELOOP, errno.ENOENT, errno.ENXIO)


@contextmanager
def opened(fd: int) -> Iterator[int]:
    """Close a descriptor at the end."""
    try:
        yield fd
    finally:
        os.close(fd)


def open_root(root: Path) -> int:
    """The folder itself, given by us: links in its own path are followed."""
    return os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def open_folder(root_fd: int, path: str) -> int:
    """A folder below, "" being the root. Raises Invalid when a part of it is a link or a file, FileNotFoundError."""
    fd = os.dup(root_fd)
    for part in filter(None, path.split("/")):
        try:
            inner = os.open(part, FOLDER, dir_fd=fd)
        except OSError as error:
            if error.errno in _NOT_A_FOLDER:
                raise Invalid(f"{path!r}: {part!r} is a link or a file, not a folder") from None
            raise
        finally:
            os.close(fd)
        fd = inner
    return fd


def open_file(root_fd: int, path: str) -> int:
    """A file below, for reading. Raises Invalid when it is gone or a link. It may be a device: fstat it."""
    folder, _, name = path.rpartition("/")
    with opened(open_folder(root_fd, folder)) as fd:
        return open_leaf(fd, name, path)


def open_leaf(folder_fd: int, name: str, path: str) -> int:
    """The same in an open folder. O_NONBLOCK: opening a FIFO must not wait for a writer."""
    try:
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder_fd)
    except OSError as error:
        if error.errno in _CHANGED:
            raise Invalid(f"{path!r} is gone, or a link now: it changed while it was read") from None
        raise
