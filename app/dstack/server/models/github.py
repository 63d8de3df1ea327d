"""The GitHub App this server speaks as, where it is installed, and the pull requests of its repositories."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Index, UniqueConstraint
from sqlmodel import Field, SQLModel

from dstack.server.models.columns import big_column, json_column


class GithubApp(SQLModel, table=True):
    """The one App (row 1), as the manifest flow gave it to us. Key and secrets are sealed by the vault. `mode` is how
    events come in: `webhook`, or `poll` where GitHub cannot reach the server."""

    __tablename__ = "github_apps"

    id: int | None = Field(default=None, primary_key=True)
    app_id: int = Field(sa_column=big_column())
    slug: str
    name: str = ""
    html_url: str = ""
    client_id: str = ""
    sealed_key: bytes
    sealed_secret: bytes
    mode: str = "webhook"
    created_at: float
    created_by: str = ""


class ForgeLog(SQLModel, table=True):
    """From when on we read an App's delivery log, and up to when we have."""

    __tablename__ = "forge_logs"

    app_id: int = Field(sa_column=big_column(primary_key=True))
    begun_at: float
    read_at: float


class Installation(SQLModel, table=True):
    """An account that installed the App; `id` is GitHub's. `problem` says why nothing can be done there."""

    __tablename__ = "installations"

    id: int = Field(sa_column=big_column(primary_key=True))
    account: str
    permissions: dict[str, str] = Field(default_factory=dict, sa_column=json_column())
    events: list[str] = Field(default_factory=list, sa_column=json_column())
    suspended: bool = False
    removed: bool = False
    problem: str = ""
    updated_at: float


class PullRequest(SQLModel, table=True):
    """As last heard of. `head_at` is when the news of `head_sha` are of, `base_at` those of its being aimed at another
    branch (0: it never was); times are the forge's. `head_moved`: it had another head before. `head_repo` is empty when
    the fork is gone. `handled` is how it stood (head, base, open, draft) when last all was done that was to come of it,
    empty before: where it stands otherwise by now, the news of it are still to be handled."""

    __tablename__ = "pull_requests"
    __table_args__ = (UniqueConstraint("repo_id", "number"),)

    id: int | None = Field(default=None, primary_key=True)
    repo_id: int = Field(foreign_key="repos.id", index=True)
    number: int
    title: str = ""
    author: str = ""
    head_sha: str = Field(index=True)
    head_branch: str = ""
    head_repo: str = ""
    is_fork: bool = False
    base_branch: str
    base_sha: str = ""
    is_draft: bool = False
    is_open: bool = True
    head_at: float
    head_moved: bool = False
    base_at: float = 0
    updated_at: float
    handled: dict[str, Any] = Field(default_factory=dict, sa_column=json_column())


class Approval(SQLModel, table=True):
    """Somebody with write access looked at this commit of a fork and lets it run, within a budget if one is given; with
    the workflows of `base_branch` alone, for whoever opened the pull request may aim it at another."""

    __tablename__ = "approvals"
    __table_args__ = (UniqueConstraint("repo_id", "number", "sha"),)

    id: int | None = Field(default=None, primary_key=True)
    repo_id: int = Field(foreign_key="repos.id")
    number: int
    sha: str
    base_branch: str
    approved_by: str
    gpu_seconds: float | None = None  # GPUs times seconds that its runs may use; None: no limit
    created_at: float


class Command(SQLModel, table=True):
    """A comment that held slash-commands, and what came of them so far: `reaction` is what we show on the comment
    (`eyes` until all are done), `answers` one entry per command, from which our one reply is written. A command that
    has an entry is never done again."""

    __tablename__ = "commands"
    __table_args__ = (UniqueConstraint("repo_id", "comment_id"),)

    id: int | None = Field(default=None, primary_key=True)
    repo_id: int = Field(foreign_key="repos.id")
    number: int
    comment_id: int = Field(sa_column=big_column())
    author: str
    reaction: str = "eyes"
    answers: list[dict[str, Any]] = Field(default_factory=list, sa_column=json_column())
    created_at: float


class NotNeeded(SQLModel, table=True):
    """A workflow that an event did not start, so that a required status does not hang: it is answered with `why`.
    `carried_sha`: an earlier commit that the workflow reads the same of; as long as its run there did not succeed, that
    is what is answered. `is_problem`: the files at the commit have problems, which are what is answered; with an empty
    `why` they could be read since. `events`: those that met the problems and have started nothing since; what one of
    them mends is nothing to another, which may start other workflows."""

    __tablename__ = "not_needed"
    __table_args__ = (Index("not_needed_carrying", "repo_id", "carried_sha"),)

    repo_id: int = Field(foreign_key="repos.id", primary_key=True)
    sha: str = Field(primary_key=True)
    workflow: str = Field(primary_key=True)
    why: str
    carried_sha: str = ""
    is_problem: bool = False
    events: list[str] = Field(default_factory=list, sa_column=json_column())
    created_at: float


class ForgeReport(SQLModel, table=True):
    """What we last wrote to the forge about `target`, written again only when it changed. `external_id`
    is the forge's id of it (a check run, a comment, an issue); `writes` counts them; `problem`: why it is parked,
    `answer` the status that the forge answered with then."""

    __tablename__ = "forge_reports"

    repo_id: int = Field(foreign_key="repos.id", primary_key=True)
    kind: str = Field(primary_key=True)
    target: str = Field(primary_key=True)
    digest: str = ""
    external_id: str = ""
    writes: int = 0
    sent_at: float | None = None
    problem: str = ""
    answer: int | None = None
