"""A process on a machine that executes attempts."""

from __future__ import annotations

from typing import Any

from sqlmodel import Field, SQLModel

from dstack.server.models.columns import json_column
from dstack.wire.codec import from_dict
from dstack.wire.runner import Capacity

ONLINE_S = 60


class Runner(SQLModel, table=True):
    __tablename__ = "runners"

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True)
    capacity: dict[str, Any] = Field(sa_column=json_column())
    version: str = ""
    draining: bool = False
    registered_at: float
    last_seen_at: float

    def read_capacity(self) -> Capacity:
        return from_dict(Capacity, self.capacity)

    def is_online(self, now: float) -> bool:
        """It was heard from within `ONLINE_S` (it polls at least every 25 s)."""
        return now - self.last_seen_at < ONLINE_S

    def doubt(self, now: float) -> None:
        """Take it for offline until it is heard from again."""
        self.last_seen_at = min(self.last_seen_at, now - ONLINE_S)
