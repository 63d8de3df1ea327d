"""A named set of files a job output: a row exists only when every blob of its manifest is in the store."""

from __future__ import annotations

from sqlalchemy import UniqueConstraint
from sqlmodel import Field, SQLModel

from dstack.server.models.columns import big_column, json_column


class Artifact(SQLModel, table=True):
    """`digest` names the manifest, itself a blob in the store."""

    __tablename__ = "artifacts"
    __table_args__ = (UniqueConstraint("attempt_id", "path"),)

    id: int | None = Field(default=None, primary_key=True)
    run_id: int = Field(foreign_key="runs.id", index=True)
    job_id: int = Field(foreign_key="jobs.id", index=True)
    attempt_id: str = Field(foreign_key="attempts.id", index=True)
    path: str
    digest: str = Field(index=True)
    bytes: int = Field(sa_column=big_column())
    files: int
    skipped: list[str] = Field(default_factory=list, sa_column=json_column())
    created_at: float
