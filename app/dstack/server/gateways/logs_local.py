"""Logs as files of a folder, one per attempt: appended to the page cache, synced when the log is complete.

The runner keeps its own copy until then, so what a power cut takes from here is sent again from the size we still have.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path

from dstack.errors import Conflict, Invalid, OffsetMismatch
from dstack.server.gateways.disk import disk, read_span, sync_folder
from dstack.server.gateways.ports import READ_BYTES

_ATTEMPT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_LOCKS = 64


class LocalLogs:
    """The `Logs` port over a folder that belongs to this process alone."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._locks = [threading.Lock() for _ in range(_LOCKS)]
        root.mkdir(mode=0o700, parents=True, exist_ok=True)

    def append(self, attempt: str, offset: int, data: bytes) -> int:
        path = self._path(attempt)
        with self._locks[hash(attempt) % _LOCKS], disk(self._root):
            fd = _open_for_append(path)
            try:
                return _append(fd, attempt, offset, data)
            finally:
                os.close(fd)

    def size(self, attempt: str) -> int:
        try:
            return self._path(attempt).stat().st_size
        except FileNotFoundError:
            return 0

    def read(self, attempt: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        try:
            with disk(self._root):
                fd = os.open(self._path(attempt), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return iter(())
        return read_span(fd, start, end)

    def tail(self, attempt: str, lines: int, max_bytes: int = READ_BYTES) -> tuple[int, bytes]:
        size = self.size(attempt)
        start = max(0, size - max_bytes)
        data = b"".join(self.read(attempt, start, size))
        cut = _last_lines(data, lines)
        if cut == 0 and start > 0:  # the window begins inside a line: leave that one out, if another follows
            cut = data.find(b"\n", 0, len(data) - 1) + 1
        return start + cut, data[cut:]

    def finish(self, attempt: str) -> int:
        path = self._path(attempt)
        with self._locks[hash(attempt) % _LOCKS], disk(self._root):
            fd = _open_for_append(path)
            try:
                os.fsync(fd)
                size = os.fstat(fd).st_size
            finally:
                os.close(fd)
            sync_folder(path.parent)
            return size

    def delete(self, attempt: str) -> int:
        path = self._path(attempt)
        size = self.size(attempt)
        with self._locks[hash(attempt) % _LOCKS]:
            try:
                path.unlink()
            except FileNotFoundError:
                return 0
        return size

    def _path(self, attempt: str) -> Path:
        if not _ATTEMPT.fullmatch(attempt):
            raise Invalid(f"{attempt[:80]!r} is not the id of an attempt")
        return self._root / attempt[-2:] / f"{attempt}.log"


def _open_for_append(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o600)
    except FileNotFoundError:
        path.parent.mkdir(0o700, parents=True, exist_ok=True)
        return os.open(path, flags, 0o600)


def _append(fd: int, attempt: str, offset: int, data: bytes) -> int:
    size = os.fstat(fd).st_size
    if offset > size:
        raise OffsetMismatch(
            f"the log of attempt {attempt} has {size} bytes, these start at {offset}",
            f"send from offset {size}",
            expected=size,
        )
    known = min(size - offset, len(data))
    if known and os.pread(fd, known, offset) != data[:known]:
        raise Conflict(f"the log of attempt {attempt} has other bytes at offset {offset}", "stored bytes never change")
    at, view = offset + known, memoryview(data)[known:]
    try:
        while view:
            written = os.pwrite(fd, view, at)
            at, view = at + written, view[written:]
    except OSError:
        os.ftruncate(fd, size)  # what was not acknowledged was not added
        raise
    return max(size, at)


def _last_lines(data: bytes, lines: int) -> int:
    """Where the last `lines` lines begin; an unfinished last line counts as one."""
    at = len(data) - 1 if data.endswith(b"\n") else len(data)
    for _ in range(lines):
        at = data.rfind(b"\n", 0, at)
        if at < 0:
            return 0
    return at + 1 if lines > 0 else len(data)
