"""One try of a job on one runner, and the offer that comes before it."""

from __future__ import annotations

from sqlalchemy import UniqueConstraint
from sqlmodel import Field, SQLModel

from dstack.server.models.columns import big_column, enum_column, json_column
from dstack.wire.states import AttemptState, Reason


class Offer(SQLModel, table=True):
    """A job reserved on a runner until `expires_at`; accepted, it becomes the attempt of the same id."""

    __tablename__ = "offers"

    id: str = Field(primary_key=True)
    job_id: int = Field(foreign_key="jobs.id", unique=True)
    runner_id: int = Field(foreign_key="runners.id", index=True)
    devices: list[str] = Field(default_factory=list, sa_column=json_column())
    expires_at: float


class Attempt(SQLModel, table=True):
    """Live while its state is not final; its lease ends at `lease_until` unless renewed."""

    __tablename__ = "attempts"
    __table_args__ = (UniqueConstraint("job_id", "number"),)

    id: str = Field(primary_key=True)
    job_id: int = Field(foreign_key="jobs.id", index=True)
    number: int
    runner_id: int = Field(foreign_key="runners.id", index=True)
    runner_name: str
    devices: list[str] = Field(default_factory=list, sa_column=json_column())
    state: AttemptState = Field(default=AttemptState.PREPARING, sa_column=enum_column(AttemptState, index=True))
    step: str = ""
    reason: Reason | None = Field(default=None, sa_column=enum_column(Reason, nullable=True))
    message: str = ""
    exit_code: int | None = None
    lease_until: float
    points: int = 0  # metric points stored so far
    log_bytes: int | None = Field(default=None, sa_column=big_column(nullable=True))  # as reported at the end
    accepted_at: float
    started_at: float | None = None
    finished_at: float | None = None
