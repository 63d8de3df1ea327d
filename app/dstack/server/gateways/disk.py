"""What the stores on this machine's disk share: reading, writing, syncing, and saying that the disk refused."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dstack.errors import Unavailable
from dstack.server.gateways.ports import READ_BYTES

_SAID = {
    errno.ENOSPC: "is full",
    errno.EDQUOT: "is over its quota",
    errno.EROFS: "is read-only",
    errno.EIO: "reports an input/output error",
    errno.EMFILE: "cannot be used: this process has too many open files",
    errno.ENFILE: "cannot be used: this machine has too many open files",
}


@contextmanager
def disk(root: Path) -> Iterator[None]:
    """Turn a disk's refusal into Unavailable; other errors are ours and pass."""
    try:
        yield
    except OSError as error:
        said = _SAID.get(error.errno or 0)
        if said is None:
            raise
        raise Unavailable(f"the disk of {root} {said}", "make room there; the call is safe to repeat") from error


def sync_filesystem(root: Path) -> None:
    """Write everything of the filesystem that holds `root` to its disk: 10 000 files cost one call."""
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
        if syncfs is None:
            os.sync()
        elif syncfs(fd) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(root))
    finally:
        os.close(fd)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_all(fd: int, data: bytes) -> None:
    """All of `data` at the file's position: one write may take less than it was given."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def read_span(fd: int, start: int, end: int | None) -> Iterator[bytes]:
    """The bytes of an open file from `start` up to `end`, in pieces; closes it."""
    with open(fd, "rb", buffering=0) as file:
        file.seek(start)
        left = os.fstat(fd).st_size - start if end is None else end - start
        while left > 0 and (data := file.read(min(left, READ_BYTES))):
            left -= len(data)
            yield data
