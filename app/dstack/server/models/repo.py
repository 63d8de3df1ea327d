"""A Git repository the server knows."""

from __future__ import annotations

from sqlalchemy import Index, UniqueConstraint
from sqlmodel import Field, SQLModel

from dstack.server.models.columns import big_column

LOCAL_FORGE = "local"
GITHUB = "github"


class Repo(SQLModel, table=True):
    """Always `owner/name`; identity is (`forge`, `forge_id`), the name may change. A repo of the forge `github` is a
    mirror here: `forge_id` is GitHub's number, `installation_id` where our App may act for it (None: no more, and
    `problem` says why)."""

    __tablename__ = "repos"
    __table_args__ = (UniqueConstraint("owner", "name"), Index("repos_by_forge_id", "forge", "forge_id"))

    id: int | None = Field(default=None, primary_key=True)
    owner: str
    name: str
    forge: str = LOCAL_FORGE
    forge_id: str = ""
    default_branch: str = "main"
    installation_id: int | None = Field(default=None, sa_column=big_column(nullable=True))
    is_private: bool = True
    problem: str = ""
    unread: str = ""  # why what happened at the forge could not be asked for, more than once in a row
    looked_at: float = 0  # when what happened at the forge was last asked for; 0: never, all there is old
    schedules_sha: str = ""  # the commit of the default branch whose schedules stand in the table
    created_at: float

    @property
    def is_mirror(self) -> bool:
        """Its branches come from a forge, and nobody pushes them here."""
        return self.forge != LOCAL_FORGE

    @property
    def full_name(self) -> str:
        return f"{self.owner}/{self.name}"


class FormerName(SQLModel, table=True):
    """What a repo of a forge was called before; of several, the one that was called so last."""

    __tablename__ = "former_names"

    owner: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    repo_id: int = Field(foreign_key="repos.id")
