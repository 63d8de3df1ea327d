"""A clock that stands until it is moved."""

from __future__ import annotations

from random import Random

from dstack.server.clock import Clock


class FakeClock(Clock):
    """Time moves when told; names and ids come from a seed."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(Random(seed))
        self.time = 1_800_000_000.0
        self._ids = 0

    def now(self) -> float:
        return self.time

    def new_id(self) -> str:
        self._ids += 1
        return f"{self._ids:020x}"

    def pass_time(self, seconds: float) -> None:
        self.time += seconds
