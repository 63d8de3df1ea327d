"""Where a branch or tag of our Git remote stood when its last push was handled."""

from __future__ import annotations

from sqlmodel import Field, SQLModel


class Head(SQLModel, table=True):
    """Compared with the refs themselves, it shows a push whose delivery was lost between ref and row."""

    __tablename__ = "heads"

    repo_id: int = Field(foreign_key="repos.id", primary_key=True)
    ref: str = Field(primary_key=True)
    sha: str
