"""Wakes what waits inside this process: topics in, events out. Nothing is stored here; a waiter re-reads the state."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

# Topics with one fixed name; the rest are built by the functions below.
QUEUE = "queue"  # something to assign, or a machine to assign it to
DELIVERIES = "deliveries"
OUTBOX = "outbox"
RUNS = "runs"  # any run changed


def run_topic(name: str) -> str:
    return f"run:{name}"


def runner_topic(runner_id: int) -> str:
    return f"runner:{runner_id}"


def log_topic(attempt_id: str) -> str:
    return f"log:{attempt_id}"


def delivery_topic(delivery_id: int) -> str:
    return f"delivery:{delivery_id}"


class Bus:
    """`publish` may be called from any thread; waiting happens on the event loop."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: dict[str, set[asyncio.Event]] = defaultdict(set)
        self.is_closed = False

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Deliver to waiters of this loop from now on."""
        self._loop = loop

    def close(self) -> None:
        """The server stops: wake every waiter for good, so that open polls and streams end. Call on the event loop."""
        self.is_closed = True
        for events in self._waiting.values():
            for event in events:
                event.set()

    def publish(self, topics: Iterable[str]) -> None:
        names = tuple(topics)
        if names and self._loop is not None and not self._loop.is_closed():
            with suppress(RuntimeError):  # it closed this very moment: nobody waits any more
                self._loop.call_soon_threadsafe(self._wake, names)

    @contextmanager
    def listen(self, *topics: str) -> Iterator[asyncio.Event]:
        """An event set whenever one of the topics is published. Subscribe first, read the state second, wait third."""
        event = asyncio.Event()
        for topic in topics:
            self._waiting[topic].add(event)
        try:
            yield event
        finally:
            for topic in topics:
                self._waiting[topic].discard(event)
                if not self._waiting[topic]:
                    del self._waiting[topic]

    def _wake(self, topics: tuple[str, ...]) -> None:
        for topic in topics:
            for event in self._waiting.get(topic, ()):
                event.set()


async def wait_for(event: asyncio.Event, timeout_s: float) -> bool:
    """True when the event came in time; clears it for the next wait."""
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return False
    event.clear()
    return True
