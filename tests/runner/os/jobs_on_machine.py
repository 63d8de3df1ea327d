"""A started launch with a reader on its output, as a runner has it; shared by these tests."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from dstack_runner.executors.base import Exit, Running

LONG_S = 20.0
PYTHON = (Path(sys.base_prefix), Path(sys.prefix))  # what a job must see to run this interpreter


class Job:
    """A started launch whose output is collected."""

    def __init__(self, running: Running, ears: int) -> None:
        self.running = running
        self.output = b""
        self.closed = threading.Event()
        self._ears = ears
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        while part := os.read(self._ears, 65536):
            self.output += part
        os.close(self._ears)
        self.closed.set()

    @property
    def text(self) -> str:
        return self.output.decode()

    def says(self, text: str) -> None:
        until(lambda: text in self.text, f"it never said {text!r}, only {self.text!r}")

    def end(self, timeout_s: float = LONG_S) -> Exit:
        end = self.running.wait(timeout_s)
        assert end is not None, f"it did not end in time; it said {self.text!r}"
        self._reader.join(timeout_s)
        assert self.closed.is_set(), "somebody still holds the output open"
        return end


def until(
    condition: Callable[[], object], what: str | Callable[[], str] = "it never came true", timeout_s: float = LONG_S
) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, what if isinstance(what, str) else what()
        time.sleep(0.01)
