"""The runs that one delivery made."""

from __future__ import annotations

from sqlmodel import Field, SQLModel

from dstack.server.models.columns import enum_column
from dstack.wire.states import JobState


class Group(SQLModel, table=True):
    __tablename__ = "groups"

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True)
    repo_id: int = Field(foreign_key="repos.id", index=True)
    delivery_id: int | None = Field(default=None, foreign_key="deliveries.id", index=True)
    state: JobState = Field(default=JobState.WAITING, sa_column=enum_column(JobState))
    created_at: float
