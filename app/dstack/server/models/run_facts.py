"""What is told of a run or commit, read at one moment: rows that belong together, no table of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dstack.server.models.artifact import Artifact
from dstack.server.models.github import NotNeeded, PullRequest
from dstack.server.models.run import Run


@dataclass(frozen=True, slots=True)
class RunFacts:
    """A run, and what stands around it. `base` is what it is compared with; `adopted` the equal run whose result it
    takes; `attempts` the ids of the attempts of its jobs, in order, and `telling` the one whose log says most: the last
    of a job that failed, else the last."""

    run: Run
    waits_for: str = ""  # its first job that waits, in words
    runners: tuple[str, ...] = ()  # that execute it now
    base: Run | None = None
    adopted: Run | None = None
    artifacts: tuple[Artifact, ...] = ()
    attempts: tuple[str, ...] = ()
    telling: str = ""


@dataclass(frozen=True, slots=True)
class TagFacts:
    """A tag that stands, or once stood, on a run of the commit; `run_name` and `sha` empty: it was removed."""

    label: str  # WORKFLOW:NAME
    run_name: str = ""
    sha: str = ""


@dataclass(frozen=True, slots=True)
class CommitFacts:
    """All there is to say of a commit; `runs` oldest first. `carried`: of workflows that were not needed there, the run
    on the commit that speaks for this one. `pulls` are open and have it as their head."""

    sha: str
    runs: Sequence[RunFacts] = ()
    not_needed: Sequence[NotNeeded] = ()
    tags: Sequence[TagFacts] = ()
    pulls: Sequence[PullRequest] = ()
    carried: Mapping[str, RunFacts] = field(default_factory=dict)
