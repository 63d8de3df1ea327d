"""One at a time for each of many: who comes for the same key waits, and may give up meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LOOK_S = 0.1


class Turns:
    """Locks by key, made when first asked for. Every method may be called from any thread."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}

    @contextmanager
    def of(self, key: str, check: Callable[[], None]) -> Iterator[None]:
        """`check` is called while waiting, and what it raises ends that."""
        with self._guard:
            lock = self._locks.setdefault(key, threading.Lock())
        while not lock.acquire(timeout=LOOK_S):
            check()
        try:
            yield
        finally:
            lock.release()
