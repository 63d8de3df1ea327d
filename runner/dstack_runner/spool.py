"""The runner's own copy of an attempt's log: a file that one side appends to and the other reads, so nothing waits.

It keeps everything until the attempt is over: a server that lost what it had not synced yet is sent it again.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from dstack.errors import Unavailable
from dstack.wire.runner import MAX_LOG_BYTES

_MARKER = "\n[dstack] the log ends here: it reached its limit of {limit} bytes; the job goes on\n"


class Spool:
    """An append-only file. Any thread may append; `size` only grows; a reader waits with `wait_beyond`."""

    def __init__(self, path: Path, *, limit: int = MAX_LOG_BYTES) -> None:
        self.path = path
        self._marker = _MARKER.format(limit=limit).encode()
        self._room = limit - len(self._marker)
        self._changed = threading.Condition()
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._fd).st_size
        self._closed = False
        self.truncated = self._size > self._room  # the log is longer than what is kept

    @property
    def size(self) -> int:
        """Bytes kept so far."""
        return self._size

    @property
    def closed(self) -> bool:
        """Nothing more will come."""
        return self._closed

    def append(self, data: bytes) -> None:
        """Keep these bytes, up to the limit. Raises Unavailable when the disk is full; a part may be kept."""
        with self._changed:
            if self.truncated or self._closed or not data:
                return
            over = self._size + len(data) - self._room
            if over > 0:
                data = data[: len(data) - over] + self._marker
                self.truncated = True
            try:
                self._write(data)
            finally:
                self._changed.notify_all()

    def read(self, offset: int, count: int) -> bytes:
        """At most `count` bytes from `offset`."""
        return os.pread(self._fd, max(0, min(count, self._size - offset)), offset)

    def wait_beyond(self, offset: int, timeout_s: float) -> bool:
        """Wait until there are bytes beyond `offset`, the spool is closed, or the time is up; whether there are."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while self._size <= offset and not self._closed:
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            return self._size > offset

    def close(self) -> None:
        """Nothing more will come; what there is stays readable. Safe to repeat."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def wake(self) -> None:
        """Let waiting readers look again."""
        with self._changed:
            self._changed.notify_all()

    def remove(self) -> None:
        """Close and delete the file."""
        self.close()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self.path.unlink(missing_ok=True)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                written = os.write(self._fd, view)
                self._size += written
                view = view[written:]
        except OSError as error:
            raise Unavailable(f"the log cannot be kept in {self.path}: {error.strerror}", "make room there") from error
