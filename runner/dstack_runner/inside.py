"""Reads files a job or a commit has written, never leaving the checkout and never waiting on anything but a file."""

from __future__ import annotations

import os
import stat
from pathlib import Path

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
    path = inside(root, relative)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotFound(f"{relative} is not there") from None
    except OSError as error:
        raise Invalid(f"{relative} cannot be read: {error.strerror}") from None
    with os.fdopen(descriptor, "rb") as file:
        about = os.fstat(file.fileno())
        if not stat.S_ISREG(about.st_mode):
            raise Invalid(f"{relative} is not a plain file")
        if about.st_size > limit:
            raise TooLarge(f"{relative} has {about.st_size} bytes; the limit is {limit}")
        data = file.read(limit + 1)
    if len(data) > limit:
        raise TooLarge(f"{relative} grew over {limit} bytes")
    return data
