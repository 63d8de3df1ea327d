"""The log of one attempt as its steps see it: takes the output of processes, and lines of the runner's own.

It knows pipes and order; masking, keeping and sending are `logs.py`.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dstack.errors import Unavailable
from dstack.wire.states import Reason
from dstack_runner.logs import LogWriter
from dstack_runner.outcome import StepFailed
from dstack_runner.spool import Spool

log = logging.getLogger(__name__)
PIPE_BYTES = 1024 * 1024
READ_BYTES = 1024 * 1024
TAIL_BYTES = 8 * 1024
OWN = "dstack: "


class JobLog:
    """Every method may be called from any thread. A line of the runner's own begins with `dstack: `.

    When the disk takes no more, writing goes on without effect, so that a job never hangs on its output; the first
    `capture` to end then tells.
    """

    def __init__(self, spool: Spool, writer: LogWriter) -> None:
        self._spool = spool
        self._writer = writer
        self._guard = threading.Lock()
        self._tail = b""
        self._fresh_line = True
        self._broken: Unavailable | None = None

    @contextmanager
    def capture(self) -> Iterator[int]:
        """A descriptor to write output to; when the block ends, all that was written is in the log.

        Raises StepFailed when the disk could not take it."""
        reader, writer = os.pipe()
        try:
            fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        except OSError:
            pass  # a machine with a smaller limit: only slower
        pump = threading.Thread(target=self._pump, args=(reader,), name="output", daemon=True)
        pump.start()
        try:
            yield writer
        finally:
            os.close(writer)
            pump.join()
        if self._broken is not None:
            raise StepFailed(
                f"the log could not be kept: {self._broken.message}", reason=Reason.DISK_FULL, machine_fault=True
            )

    def write(self, data: bytes) -> None:
        """Append output bytes."""
        with self._guard:
            self._append(data)

    def say(self, text: str) -> None:
        """Append lines of the runner's own."""
        lines = "".join(f"{OWN}{line}\n" for line in text.splitlines() or [""])
        with self._guard:
            self._append((b"" if self._fresh_line else b"\n") + lines.encode("utf-8", "replace"))

    def tail(self) -> str:
        """The last of what was written, not masked: to look at, never to show."""
        with self._guard:
            return self._tail.decode("utf-8", "replace")

    def finish(self) -> int:
        """Write what masking held back; the bytes of the whole log. Safe to repeat."""
        with self._guard:
            self._attempt(self._writer.flush)
            return self._spool.size

    def _pump(self, reader: int) -> None:
        with os.fdopen(reader, "rb", buffering=0) as pipe:
            while data := pipe.read(READ_BYTES):
                self.write(data)

    def _append(self, data: bytes) -> None:
        if data:
            self._fresh_line = data.endswith(b"\n")
            self._tail = (self._tail + data[-TAIL_BYTES:])[-TAIL_BYTES:]
            self._attempt(lambda: self._writer.write(data))

    def _attempt(self, write: Callable[[], None]) -> None:
        try:
            write()
        except Unavailable as error:
            if self._broken is None:
                log.warning("%s", error.message)
            self._broken = error
