"""How a runner leaves: the first signal drains (no new offers, live jobs end in peace), the second stops jobs now."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Shutdown:
    """Asked for from any thread or a signal handler; `change` wakes who waits."""

    def __init__(self) -> None:
        self.draining = threading.Event()
        self.now = threading.Event()
        self.change = threading.Event()

    def ask(self) -> None:
        """Drain; asked again, stop."""
        if self.draining.is_set():
            self.now.set()
        self.draining.set()
        self.change.set()

    def ask_now(self) -> None:
        """Stop at once."""
        self.draining.set()
        self.now.set()
        self.change.set()

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Take the signals of this process for the block; only the main thread may.

        A handler may interrupt the very lock that `ask` needs, so it only writes to a pipe, which a thread reads.
        """
        reader, writer = os.pipe()

        def handle(number: int, frame: FrameType | None) -> None:
            os.write(writer, b"!")

        threading.Thread(target=self._listen, args=(reader,), name="signals", daemon=True).start()
        before = {number: signal.signal(number, handle) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(writer)

    def _listen(self, reader: int) -> None:
        with os.fdopen(reader, "rb", buffering=0) as pipe:
            while pipe.read(1):
                self.ask()
