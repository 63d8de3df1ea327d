"""A progress line on a terminal's standard error, for transfers; silent everywhere else."""

from __future__ import annotations

import sys
import time

from dstack.cli import quantities, terminal

INTERVAL_S = 0.1
BAR = 24


class Progress:
    """Call `add` with every piece of `total` bytes; `label` says what is going on. Use as a context."""

    def __init__(self, label: str, total: int) -> None:
        self._label, self._total, self._done = label, total, 0
        self._shown = terminal.is_terminal(sys.stderr) and total > 0
        self._next = 0.0

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def add(self, count: int) -> None:
        self._done += count
        if self._shown and (now := time.monotonic()) >= self._next:
            self._next = now + INTERVAL_S
            text = line(self._label, self._done, self._total, terminal.width(sys.stderr) - 1)
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()


class PushProgress:
    """Shows the one line of a `git push` that moves, where there is a terminal. Use as a context."""

    def __init__(self) -> None:
        self.is_shown = terminal.is_terminal(sys.stderr)

    def __enter__(self) -> PushProgress:
        return self

    def __exit__(self, *_: object) -> None:
        if self.is_shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def tell(self, said: str) -> None:
        """A line that git wrote: `Writing objects:  50% (1/2), 1.00 MiB | 2.00 MiB/s` is shown, others are not."""
        if self.is_shown and said.startswith("Writing objects"):
            text = said.replace("Writing objects", "sending", 1)[: terminal.width(sys.stderr) - 1]
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()


def line(label: str, done: int, total: int, width: int) -> str:
    """`label [=====     ] 52 % of 1.5 GB`, shorter where there is no room; pure."""
    part = min(1.0, done / total) if total else 1.0
    filled = int(part * BAR)
    words = f"{int(part * 100):3} % of {quantities.size(total)}"
    full = f"{label} [{'=' * filled}{' ' * (BAR - filled)}] {words}"
    return full if len(full) <= width else f"{label} {words}"[:width]
