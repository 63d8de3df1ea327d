"""One event as it came in, stored before it is answered."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from sqlalchemy import Index
from sqlmodel import Field, SQLModel

from dstack.server.models.columns import enum_column, json_column


class DeliveryState(StrEnum):
    RECEIVED = "received"  # stored; a handler will look at it
    PROCESSED = "processed"  # it made what it asks for
    IGNORED = "ignored"  # nothing to do, `reason` says why
    FAILED = "failed"  # could not be handled, `reason` says why


class Delivery(SQLModel, table=True):
    """`kind` chooses the handler; `guid` is the sender's id for it: the same one is handled once. Our own events have
    their facts in `body`; a webhook's are in `payload`, byte for byte as it came, with its SHA-256 in `digest`, and
    `event` names it as the forge does, with its action (`pull_request.opened`). `replay_of` is an earlier delivery."""

    __tablename__ = "deliveries"
    __table_args__ = (Index("deliveries_by_lane", "state", "repo_id"),)

    id: int | None = Field(default=None, primary_key=True)
    guid: str = Field(unique=True)
    kind: str
    repo_id: int | None = Field(default=None, foreign_key="repos.id", index=True)
    sender: str = ""
    body: dict[str, Any] = Field(default_factory=dict, sa_column=json_column())
    event: str = ""
    payload: bytes | None = None
    digest: str = ""
    replay_of: int | None = None
    state: DeliveryState = Field(default=DeliveryState.RECEIVED, sa_column=enum_column(DeliveryState, index=True))
    reason: str = ""
    tries: int = 0
    received_at: float
    processed_at: float | None = None
