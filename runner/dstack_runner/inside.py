"""Reads files a job or a commit has written, never leaving the checkout and never waiting on anything but a file."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

from dstack.errors import Invalid, NotFound, TooLarge


def inside(root: Path, relative: str) -> Path:
    """The real place of `relative` below `root`, links resolved. Raises Invalid when it lies elsewhere.

    Only meaningful while nothing hostile runs, as between the steps of an attempt.
    """
    if not relative or relative.startswith(("/", "~")) or "\0" in relative:
        raise Invalid(f"{relative!r} is not a path inside the checkout")
    real = Path(os.path.realpath(root / relative))
    if not real.is_relative_to(os.path.realpath(root)):
        raise Invalid(f"{relative!r} leads out of the checkout", "paths are relative to it and stay below it")
    return real


def read_inside(root: Path, relative: str, limit: int) -> bytes:
    """The bytes of a plain file of at most `limit` bytes. Raises NotFound, Invalid, TooLarge."""
    try:
        file = open_plain(inside(root, relative))
    except FileNotFoundError:
        raise NotFound(f"{relative} is not there") from None
    except OSError as error:
        raise Invalid(f"{relative} cannot be read: {error.strerror or error}") from None
    with file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise TooLarge(f"{relative} is larger than {limit} bytes")
    return data


def open_plain(path: Path) -> BinaryIO:
    """Open a file for reading without waiting and without following a link. Raises OSError, also when it is another
    thing than a plain file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a plain file")
    return os.fdopen(descriptor, "rb")
