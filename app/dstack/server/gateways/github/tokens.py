"""The tokens of installations: made when needed, used until shortly before they end, forgotten when refused."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

SPARE_S = 120.0  # a token that ends sooner is not used any more


@dataclass(frozen=True, slots=True)
class Token:
    """`life_s`: how long it is good for, from when GitHub gave it."""

    value: str = field(repr=False)
    life_s: float


class Tokens:
    """One token an installation; several threads that need the same one wait for one call."""

    def __init__(self, make: Callable[[int], Token]) -> None:
        self._make = make
        self._guard = threading.Lock()
        self._locks: defaultdict[int, threading.Lock] = defaultdict(threading.Lock)
        self._held: dict[int, tuple[str, float]] = {}

    def get(self, installation: int) -> str:
        with self._guard:
            lock = self._locks[installation]
        with lock:
            value, until = self._held.get(installation, ("", 0.0))
            if time.monotonic() < until:
                return value
            made = self._make(installation)
            self._held[installation] = (made.value, time.monotonic() + made.life_s - SPARE_S)
            return made.value

    def forget(self, installation: int, value: str) -> None:
        """GitHub refused this one. Another thread may have a newer one already: that stays."""
        if self._held.get(installation, ("", 0.0))[0] == value:
            self._held.pop(installation, None)
