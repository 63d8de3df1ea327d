"""A number a job reported at a step. Final metrics live on the run."""

from __future__ import annotations

from sqlmodel import Field, SQLModel

from dstack.server.models.columns import big_column


class Metric(SQLModel, table=True):
    """Point number `position` of its attempt."""

    __tablename__ = "metrics"

    attempt_id: str = Field(foreign_key="attempts.id", primary_key=True)
    position: int = Field(primary_key=True)
    name: str
    step: int | None = Field(default=None, sa_column=big_column(nullable=True))
    value: float
    at: float
