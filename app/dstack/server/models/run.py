"""One workflow at one commit with resolved variables, the runs it needs, and the artifacts it was given."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Index
from sqlmodel import Field, SQLModel

from dstack.server.models.columns import enum_column, json_column
from dstack.wire.states import JobState, Reason, Trigger, Verdict


class Run(SQLModel, table=True):
    """`state` is the fold of its jobs, kept here for listings. `key` is the natural key (repo, ref, commit, workflow,
    event) that stops a second run for the same push; `work_key` is the same for the same work (workflow entry,
    variables, tree of its paths, inputs), and a run that adopts the result of another names it in `adopted_id`."""

    __tablename__ = "runs"
    __table_args__ = (
        Index("runs_by_workflow", "repo_id", "workflow", "state"),
        Index("runs_at_commits", "repo_id", "workflow", "sha"),
        Index("runs_of_pull", "repo_id", "pull_request"),
    )

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
    is_clean: bool = False  # by push or pull request with default variables: its status may gate a merge
    objects: str = ""  # the bare repository that has the commit, where it is not the repo's own (a fork's)
    pull_request: int | None = None
    base_branch: str = ""  # of a pull request: where it goes to
    needs_approval: bool = False
    approved_by: str = ""
    work_key: str = Field(default="", index=True)
    adopted_id: int | None = Field(default=None, index=True)
    gate: str | None = None
    base_run_id: int | None = Field(default=None, index=True)  # what metrics and gate are compared with
    verdict_why: str = ""
    notify: dict[str, Any] | None = Field(default=None, sa_column=json_column(nullable=True))
    scheduled_at: float | None = None  # the nominal time it was due
    parent_sha: str = ""  # of a working-tree run: the commit the tree was based on; its note goes there
    created_by: str = ""
    restarted_from: str | None = None
    created_at: float
    started_at: float | None = None
    finished_at: float | None = None

    @property
    def result_id(self) -> int:
        """The run that has the log and the artifacts."""
        return self.adopted_id or self.id or 0

    @property
    def git_id(self) -> str:
        """The bare repository of this server that has its commit."""
        return self.objects or str(self.repo_id)

    @property
    def is_held(self) -> bool:
        """It waits until somebody with write access approves its commit."""
        return self.needs_approval and not self.approved_by

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
