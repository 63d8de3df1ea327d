"""When a workflow of a default branch is due by the clock."""

from __future__ import annotations

from sqlmodel import Field, SQLModel


class Schedule(SQLModel, table=True):
    """One `schedule` entry as the file on the default branch has it. `due_at` (seconds since the epoch,
    UTC) is the next nominal time that no delivery was made for."""

    __tablename__ = "schedules"

    repo_id: int = Field(foreign_key="repos.id", primary_key=True)
    workflow: str = Field(primary_key=True)
    cron: str = Field(primary_key=True)
    timezone: str = Field(primary_key=True)
    missed: str = "run-latest"
    due_at: float = Field(index=True)
