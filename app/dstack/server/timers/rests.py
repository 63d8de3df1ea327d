"""Remembers who is left alone for a while because the last try failed. In memory: after a start all are tried again."""

from __future__ import annotations

from collections.abc import Hashable

from dstack.server.decide.resting import rest_after


class Rests:
    """`who` is whatever was tried."""

    def __init__(self) -> None:
        self._until: dict[Hashable, float] = {}
        self._failures: dict[Hashable, int] = {}

    def is_resting(self, who: Hashable, now: float) -> bool:
        return now < self._until.get(who, 0.0)

    def rest(self, who: Hashable, until: float) -> None:
        self._until[who] = until

    def fail(self, who: Hashable, now: float, *, will_pass: bool = False) -> int:
        """It rests, longer each time; how often it has failed in a row."""
        self._failures[who] = failures = self._failures.get(who, 0) + 1
        self._until[who] = now + rest_after(failures, will_pass=will_pass)
        return failures

    def recover(self, who: Hashable) -> None:
        self._failures.pop(who, None)
        self._until.pop(who, None)
