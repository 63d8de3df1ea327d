"""A movable name on a succeeded run, and the history of its moves."""

from __future__ import annotations

from sqlalchemy import UniqueConstraint
from sqlmodel import Field, SQLModel


class Tag(SQLModel, table=True):
    __tablename__ = "tags"
    __table_args__ = (UniqueConstraint("repo_id", "workflow", "name"),)

    id: int | None = Field(default=None, primary_key=True)
    repo_id: int = Field(foreign_key="repos.id", index=True)
    workflow: str
    name: str
    run_id: int = Field(foreign_key="runs.id", index=True)
    moved_at: float
    moved_by: str

    @property
    def label(self) -> str:
        """As people write it: `prepare:latest`."""
        return f"{self.workflow}:{self.name}"


class TagMove(SQLModel, table=True):
    """`run_id` None: the tag was removed."""

    __tablename__ = "tag_moves"

    id: int | None = Field(default=None, primary_key=True)
    repo_id: int = Field(foreign_key="repos.id", index=True)
    workflow: str
    name: str
    run_id: int | None = Field(default=None, foreign_key="runs.id")
    moved_at: float
    moved_by: str
