"""One unit a machine executes."""

from __future__ import annotations

from typing import Any

from sqlmodel import Field, SQLModel

from dstack.server.models.columns import enum_column, json_column
from dstack.wire.codec import from_dict
from dstack.wire.job import Job
from dstack.wire.states import JobState, Reason


class JobRow(SQLModel, table=True):
    """`spec` is the wire's Job. `queued_at` orders the queue and survives a retry, so a retried job is at the front."""

    __tablename__ = "jobs"

    id: int | None = Field(default=None, primary_key=True)
    run_id: int = Field(foreign_key="runs.id", index=True)
    position: int
    name: str
    spec: dict[str, Any] = Field(sa_column=json_column())
    state: JobState = Field(sa_column=enum_column(JobState, index=True))
    reason: Reason | None = Field(default=None, sa_column=enum_column(Reason, nullable=True))
    message: str = ""
    waits_for: str = ""  # in words, while waiting or queued
    stop_reason: Reason | None = Field(default=None, sa_column=enum_column(Reason, nullable=True))
    stop_message: str = ""
    checkout_repo_id: int | None = Field(default=None, foreign_key="repos.id")  # of a provider from another repo
    checkout_sha: str = ""
    attempts: int = 0  # made so far
    retries: int = 0  # of them, those that count against the retry limit
    queued_at: float | None = None
    not_before: float | None = None
    finished_at: float | None = None

    def read_spec(self) -> Job:
        return from_dict(Job, self.spec)
