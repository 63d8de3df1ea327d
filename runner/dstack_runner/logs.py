"""Brings an attempt's log from the job to the server: masked, kept on disk, sent by offset, however long it takes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from dstack.errors import DstackError, LeaseLost, OffsetMismatch
from dstack.wire.runner import MAX_LOG_CHUNK
from dstack_runner.content.api import LogApi
from dstack_runner.mask import Masker
from dstack_runner.server import delays, worth_retrying
from dstack_runner.spool import Spool

GATHER_S = 0.05  # a line goes out at once after silence; lines that follow it are gathered this long
ENOUGH_BYTES = 1024 * 1024  # with so much waiting there is nothing to gather
LOOK_S = 1.0


class LogWriter:
    """The side of the job: what it prints goes through the masker into the spool. Any thread may write."""

    def __init__(self, masker: Masker, spool: Spool) -> None:
        self._masker = masker
        self._spool = spool
        self._lock = threading.Lock()

    def write(self, data: bytes) -> None:
        """Raises Unavailable when the disk takes no more."""
        with self._lock:
            self._spool.append(self._masker.feed(data))

    def say(self, text: str) -> None:
        """A line of the runner's own, on a line of its own."""
        self.write(f"{text}\n".encode("utf-8", "replace"))

    def flush(self) -> None:
        """Give out what was held back because it might begin a secret: the job has been silent, or is over."""
        with self._lock:
            self._spool.append(self._masker.flush())

    def close(self) -> None:
        """The job is over."""
        self.flush()
        self._spool.close()


class LogSender:
    """The side of the server: a thread that sends what the spool has, until it is closed and empty.

    A server that is away or unwell is tried again for ever, later and later; a lost lease ends it at once. What the
    server says it has decides where to go on from, so restarts of either side lose and repeat nothing.
    """

    def __init__(
        self,
        api: LogApi,
        spool: Spool,
        *,
        sent: int = 0,
        on_wait: Callable[[DstackError], None] = lambda error: None,
    ) -> None:
        self._api = api
        self._spool = spool
        self._on_wait = on_wait
        self._stop = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log-sender", daemon=True)
        self.sent = sent
        self.error: DstackError | None = None  # why it ended before all was sent

    def start(self) -> None:
        self._thread.start()

    @property
    def lost(self) -> bool:
        """The attempt is no longer ours."""
        return isinstance(self.error, LeaseLost)

    def drain(self, deadline_s: float) -> bool:
        """Close the spool and wait until all is sent, at most `deadline_s` seconds; whether it was."""
        self._spool.close()
        self._ended.wait(deadline_s)
        return self.error is None and self.sent == self._spool.size

    def stop(self) -> None:
        """End now, whatever is left unsent. Returns when the thread has ended. Safe to repeat."""
        self._stop.set()
        self._spool.wake()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        try:
            while not self._stop.is_set() and self._gather():
                self._send_patiently()
        except DstackError as error:
            self.error = error
        finally:
            self._ended.set()

    def _gather(self) -> bool:
        """Wait for bytes to send; False when there are none and none will come."""
        while not self._spool.wait_beyond(self.sent, LOOK_S):
            if self._spool.closed or self._stop.is_set():
                return False
        return True

    def _send_patiently(self) -> None:
        for delay in delays():
            began = time.monotonic()
            try:
                self._send()
            except OffsetMismatch as error:
                self._go_on_from(error)
            except DstackError as error:
                if not worth_retrying(error):
                    raise
                self._on_wait(error)
                if self._stop.wait(max(delay, getattr(error, "retry_after", 0))):
                    return
                continue
            self._let_gather(began)
            return

    def _send(self) -> None:
        data = self._spool.read(self.sent, MAX_LOG_CHUNK)
        self._api.put_log(self.sent, data)
        self.sent += len(data)

    def _go_on_from(self, error: OffsetMismatch) -> None:
        """The server has less than we thought (it came back from an older state)."""
        if error.expected >= self.sent:
            raise error  # it contradicts itself: asking again would never end
        self.sent = error.expected

    def _let_gather(self, began: float) -> None:
        left = GATHER_S - (time.monotonic() - began)
        if left > 0 and not self._spool.closed:
            self._spool.wait_beyond(self.sent + ENOUGH_BYTES, left)
