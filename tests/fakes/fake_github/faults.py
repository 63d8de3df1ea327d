"""Faults played on calls: limits, broken servers, lost connections and answers, hanging. Thread-safe."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from fake_github import shapes
from fake_github.budget import SECONDARY
from fake_github.wire import Answer


@dataclass(slots=True)
class Fault:
    """What happens to a call. `answer` None lets the call be worked on: after `hang_s`, and with `lost` its answer
    goes nowhere."""

    name: str
    answer: Answer | None = None
    hang_s: float = 0.0
    lost: bool = False


@dataclass(slots=True)
class _Rule:
    fault: Callable[[], Fault]
    path: re.Pattern[str]
    methods: tuple[str, ...]
    left: int | None
    until: float | None = None
    played: int = field(default=0)


class Faults:
    """Rules, tried in order; each is meant for calls whose path (below the API's address, or the whole of a Git
    address) matches a regular expression anywhere, and for `method` ("POST" or "POST PATCH"; empty: any).

    `count` calls are hit (None: no end), `for_s` seconds at most."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._guard = threading.Lock()
        self._rules: list[_Rule] = []
        self.played: list[tuple[str, str, str]] = []  # name, method, path

    def add(
        self, fault: Callable[[], Fault], path: str = "", method: str = "", count: int | None = 1,
        for_s: float | None = None,
    ) -> None:  # fmt: skip
        until = time.monotonic() + for_s if for_s is not None else None
        left = None if for_s is not None and count == 1 else count
        with self._guard:
            self._rules.append(_Rule(fault, re.compile(path), tuple(method.split()), left, until))

    def clear(self) -> None:
        with self._guard:
            self._rules.clear()

    def take(self, method: str, path: str) -> Fault | None:
        """The fault this call gets, used up by it."""
        with self._guard:
            for rule in self._rules:
                over = rule.left == 0 or (rule.until is not None and time.monotonic() >= rule.until)
                if over or (rule.methods and method not in rule.methods) or not rule.path.search(path):
                    continue
                if rule.left is not None:
                    rule.left -= 1
                fault = rule.fault()
                self.played.append((fault.name, method, path))
                return fault
        return None

    # The faults. All take path, method, count and for_s.

    def secondary_limit(self, path: str = "", retry_after: int | None = 60, **when: object) -> None:
        """403 of the secondary limit; `retry_after` None leaves the header out."""
        headers = {"Retry-After": str(retry_after)} if retry_after is not None else {}
        self._answer("secondary limit", 403, SECONDARY, headers, path, **when)

    def primary_limit(self, path: str = "", reset_in_s: float = 60, **when: object) -> None:
        """403 of an hour used up, which ends in `reset_in_s`."""

        def fault() -> Fault:
            headers = {
                "X-RateLimit-Limit": "5000", "X-RateLimit-Remaining": "0", "X-RateLimit-Used": "5000",
                "X-RateLimit-Reset": str(int(self._clock() + reset_in_s)), "X-RateLimit-Resource": "core",
            }  # fmt: skip
            body = shapes.failure("API rate limit exceeded for installation.")
            return Fault("primary limit", Answer(403, body, headers))

        self.add(fault, path, **when)  # type: ignore[arg-type]

    def too_many(self, path: str = "", retry_after: int | None = 60, **when: object) -> None:
        headers = {"Retry-After": str(retry_after)} if retry_after is not None else {}
        self._answer("too many", 429, SECONDARY, headers, path, **when)

    def error(self, status: int = 502, path: str = "", **when: object) -> None:
        """A 5xx (or any other status) before anything was done."""
        self._answer(f"error {status}", status, "Server Error", {}, path, **when)

    def drop(self, path: str = "", **when: object) -> None:
        """The connection is reset before anything was done."""
        self.add(lambda: Fault("dropped", Answer(0, cut=True)), path, **when)  # type: ignore[arg-type]

    def lose_answer(self, path: str = "", **when: object) -> None:
        """The work is done, and the connection reset instead of an answer."""
        self.add(lambda: Fault("answer lost", lost=True), path, **when)  # type: ignore[arg-type]

    def hang(self, seconds: float, path: str = "", **when: object) -> None:
        """Nothing happens for so long; then the call is worked on."""
        self.add(lambda: Fault("hung", hang_s=seconds), path, **when)  # type: ignore[arg-type]

    def _answer(self, name: str, status: int, message: str, headers: dict[str, str], path: str, **when: object) -> None:
        def fault() -> Fault:
            return Fault(name, Answer(status, shapes.failure(message), dict(headers)))

        self.add(fault, path, **when)  # type: ignore[arg-type]

    @contextmanager
    def outage(self, how: str = "503") -> Iterator[None]:
        """Every call fails: "503", another status, or "reset" for connections that break."""
        if how == "reset":
            rule = _Rule(lambda: Fault("outage", Answer(0, cut=True)), re.compile(""), (), None)
        else:
            body = shapes.failure("Service unavailable")
            rule = _Rule(lambda: Fault("outage", Answer(int(how), body)), re.compile(""), (), None)
        with self._guard:
            self._rules.insert(0, rule)
        try:
            yield
        finally:
            with self._guard:
                if rule in self._rules:
                    self._rules.remove(rule)
