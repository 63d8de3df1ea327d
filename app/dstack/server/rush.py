"""Knows whether webhooks come one upon another just now, and lets them go before work that can wait a moment."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

_APART_S = 0.01  # those that come closer together than this are a rush
_LONGEST_S = 0.05  # it may go on and on: nobody waits longer


@dataclass
class Rush:
    """Used on the event loop alone, so it needs no lock. `clock` never goes back."""

    clock: Callable[[], float] = time.monotonic
    _last: float = field(default=-math.inf, init=False)
    _ends: float = field(default=-math.inf, init=False)

    def note_one(self) -> None:
        """One has come that may be trusted."""
        now = self.clock()
        if now - self._last < _APART_S:
            self._ends = now + _APART_S
        self._last = now

    async def let_pass(self) -> None:
        """Returns when no more come, at once where none do."""
        longest = self.clock() + _LONGEST_S
        while (rest := min(self._ends, longest) - self.clock()) > 0:
            await asyncio.sleep(rest)
