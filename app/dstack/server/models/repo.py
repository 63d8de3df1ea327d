"""A Git repository the server knows."""

from __future__ import annotations

from sqlalchemy import UniqueConstraint
from sqlmodel import Field, SQLModel

LOCAL_FORGE = "local"


class Repo(SQLModel, table=True):
    """Always `owner/name`; identity is (`forge`, `forge_id`), the name may change."""

    __tablename__ = "repos"
    __table_args__ = (UniqueConstraint("owner", "name"),)

    id: int | None = Field(default=None, primary_key=True)
    owner: str
    name: str
    forge: str = LOCAL_FORGE
    forge_id: str = ""
    default_branch: str = "main"
    created_at: float

    @property
    def full_name(self) -> str:
        return f"{self.owner}/{self.name}"
