"""One workflow at one commit with resolved variables, the runs it needs, and the artifacts it was given."""

from __future__ import annotations

from sqlalchemy import Index
from sqlmodel import Field, SQLModel

from dstack.server.models.columns import enum_column, json_column
from dstack.wire.states import JobState, Reason, Trigger, Verdict


class Run(SQLModel, table=True):
    """`state` is the fold of its jobs, kept here for listings. `key` is the natural key (repo, ref, commit, workflow,
    event) that stops a second run for the same push."""

    __tablename__ = "runs"
    __table_args__ = (Index("runs_by_workflow", "repo_id", "workflow", "state"),)

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True)
    group_id: int = Field(foreign_key="groups.id", index=True)
    repo_id: int = Field(foreign_key="repos.id", index=True)
    workflow: str
    sha: str = Field(index=True)
    branch: str = ""
    trigger: Trigger = Field(sa_column=enum_column(Trigger))
    key: str | None = Field(default=None, unique=True)
    variables: dict[str, str] = Field(default_factory=dict, sa_column=json_column())
    state: JobState = Field(default=JobState.WAITING, sa_column=enum_column(JobState, index=True))
    reason: Reason | None = Field(default=None, sa_column=enum_column(Reason, nullable=True))
    message: str = ""
    metrics: dict[str, float] = Field(default_factory=dict, sa_column=json_column())
    headline: str | None = None
    better: str = "higher"
    report: str = ""
    verdict: Verdict | None = Field(default=None, sa_column=enum_column(Verdict, nullable=True))
    auto_tag: str | None = None  # moved here on success, already checked to be on the default branch
    concurrency_group: str | None = Field(default=None, index=True)
    trusted: bool = True
    subject: str = ""  # of the commit: first line of its message, and its author
    author: str = ""
    parent_sha: str = ""  # of a working-tree run: the commit the tree was based on; its note goes there
    created_by: str = ""
    restarted_from: str | None = None
    created_at: float
    started_at: float | None = None
    finished_at: float | None = None

    @property
    def noted_sha(self) -> str:
        """The commit that carries this run's Git note."""
        return self.parent_sha or self.sha


class RunNeed(SQLModel, table=True):
    """An edge: `run_id` waits until `needs_id` has succeeded."""

    __tablename__ = "run_needs"

    run_id: int = Field(foreign_key="runs.id", primary_key=True)
    needs_id: int = Field(foreign_key="runs.id", primary_key=True, index=True)


class RunInput(SQLModel, table=True):
    """A dependency as it was resolved: the run whose artifacts are mounted, and the tag that named it, if any."""

    __tablename__ = "run_inputs"

    run_id: int = Field(foreign_key="runs.id", primary_key=True)
    position: int = Field(primary_key=True)
    source_id: int = Field(foreign_key="runs.id", index=True)
    tag: str = ""
    copy_files: bool = False
