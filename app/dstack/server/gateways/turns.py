"""One at a time for each of many: who comes for the same key waits for those before."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Turns(Generic[K]):
    """Locks by key, made when first asked for; as many as there are keys in a server's life, which is few."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks: defaultdict[K, threading.Lock] = defaultdict(threading.Lock)

    @contextmanager
    def of(self, key: K) -> Iterator[None]:
        with self._guard:
            lock = self._locks[key]
        with lock:
            yield
