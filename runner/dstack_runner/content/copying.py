"""Copies one file the cheapest way the filesystem knows: shared blocks (reflink), else in the kernel."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from pathlib import Path

FICLONE = 0x40049409
_NO_REFLINK = (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS, errno.EPERM)
_NO_RANGE_COPY = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF)


def reflink(source_fd: int, target_fd: int) -> bool:
    """Let the target share the source's blocks, copied when one is written; False where that is not possible."""
    try:
        fcntl.ioctl(target_fd, FICLONE, source_fd)
    except OSError as error:
        if error.errno in _NO_REFLINK:
            return False
        raise
    return True


def copy_bytes(source_fd: int, target_fd: int) -> None:
    """All bytes of one open file into another, both at their start."""
    left = os.fstat(source_fd).st_size
    try:
        while left > 0 and (count := os.copy_file_range(source_fd, target_fd, left)):
            left -= count
    except OSError as error:
        if error.errno not in _NO_RANGE_COPY:
            raise
        with open(source_fd, "rb", closefd=False) as source, open(target_fd, "wb", closefd=False) as target:
            shutil.copyfileobj(source, target, 1024 * 1024)


def copy_file(source: Path, target: Path, mode: int) -> None:
    """A new file with these bytes and this mode."""
    with source.open("rb", buffering=0) as old, target.open("xb", buffering=0) as new:
        if not reflink(old.fileno(), new.fileno()):
            copy_bytes(old.fileno(), new.fileno())
        os.fchmod(new.fileno(), mode)
