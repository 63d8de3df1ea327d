"""A mark that something shown outside is out of date; a worker renders it from the current state and sends it."""

from __future__ import annotations

from sqlmodel import Field, SQLModel


class OutboxMark(SQLModel, table=True):
    """Setting a mark twice is one mark: `version` grows, and a worker clears only the version it rendered."""

    __tablename__ = "outbox"

    kind: str = Field(primary_key=True)
    target: str = Field(primary_key=True)
    version: int = 1
    marked_at: float
    tries: int = 0
    not_before: float = 0
    problem: str = ""
