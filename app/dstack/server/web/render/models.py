"""What the pages need to know beyond the client API's views: frozen, already decided, nothing is loaded from here."""

from __future__ import annotations

from dataclasses import dataclass, field

from dstack.wire.api import ArtifactFile, ArtifactView, RunView

Series = dict[str, list[tuple[int, float]]]
"""Metric name -> its points `(step, value)` in the order of their steps."""


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs a person asked for. Empty fields do not narrow; `state` is a run state or `active` (not final)."""

    repo: str = ""
    workflow: str = ""
    branch: str = ""
    state: str = ""
    trigger: str = ""
    pr: str = ""  # the number of a pull request
    sha: str = ""
    cursor: str = ""


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run in a list. `previous` are the metrics it is compared with: of its base, else of the last succeeded run of
    the same workflow before it. The addresses are of the forge, empty for a repo that is on none; `is_held`: it waits
    until its commit is approved."""

    run: RunView
    subject: str = ""  # first line of the commit message
    author: str = ""
    better: str = "higher"  # which way the headline metric should go: `higher` or `lower`
    previous: dict[str, float] = field(default_factory=dict)
    commit_url: str = ""
    pull_url: str = ""
    is_held: bool = False


@dataclass(frozen=True, slots=True)
class RunList:
    """One page of runs, newest first, the runs of a group side by side. `next` is the cursor of the older page."""

    rows: list[RunRow]
    next: str | None = None


@dataclass(frozen=True, slots=True)
class Choices:
    """What the filters of the run list offer."""

    repos: list[str] = field(default_factory=list)
    workflows: list[str] = field(default_factory=list)
    branches: list[str] = field(default_factory=list)
    triggers: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class AttemptData:
    """One try of a job. `number` counts from 1 within its job; times are ISO 8601; `step` is what it does now."""

    id: str
    job: str
    number: int
    state: str
    reason: str = ""
    message: str = ""
    runner: str = ""
    exit_code: int | None = None
    step: str = ""
    started_at: str | None = None
    finished_at: str | None = None


@dataclass(frozen=True, slots=True)
class Neighbour:
    """Another run of the same group, with the runs it needs by name."""

    name: str
    workflow: str
    state: str
    needs: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class InputData:
    """An artifact this run was given. `source` is what the workflow wrote (`prepare:latest`), `run` who made it."""

    path: str
    source: str
    run: str = ""
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a run's results come from, as far as it is known: pairs of a label and a value, in reading order."""

    facts: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Something that was not taken from us (`The commit status dstack/train`), and what was said; `is_notice`: by the
    receiver of a notification, else by the forge."""

    what: str
    why: str
    is_notice: bool = False


@dataclass(frozen=True, slots=True)
class ForgeRepo:
    """A repository on the forge, or an account that installed the App: its page there, and what is wrong with it."""

    name: str
    url: str
    problem: str = ""


@dataclass(frozen=True, slots=True)
class ForgeOverview:
    """Where the App is installed, what it sees there, and the newest of what was refused: repo, run (may be empty),
    refusal."""

    accounts: list[ForgeRepo] = field(default_factory=list)
    repos: list[ForgeRepo] = field(default_factory=list)
    refused: list[tuple[str, str, Refusal]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class RunData:
    """Everything the page of one run shows. Attempts are listed in the order of jobs, oldest first."""

    row: RunRow
    attempts: list[AttemptData] = field(default_factory=list)
    group: list[Neighbour] = field(default_factory=list)
    inputs: list[InputData] = field(default_factory=list)
    series: Series = field(default_factory=dict)
    report: str = ""  # Markdown as the job wrote it
    previous_run: str = ""  # the run `row.previous` belongs to
    provenance: Provenance = field(default_factory=Provenance)
    restarted_as: list[str] = field(default_factory=list)
    pull_title: str = ""
    scheduled_at: str | None = None  # the nominal time it was due
    refused: list[Refusal] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ArtifactData:
    """An artifact with its files, and the run that made it."""

    artifact: ArtifactView
    run: str
    files: list[ArtifactFile] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
