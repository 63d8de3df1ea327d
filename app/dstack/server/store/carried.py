"""Commits that an earlier one speaks for, and the runs there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from sqlmodel import Session, col, exists, select

from dstack.server.models import ForgeReport, Head, NotNeeded, PullRequest, Run
from dstack.wire.states import Reason


@dataclass(frozen=True, slots=True)
class Spoken:
    """What is known of a workflow on some commits: those with a clean run of it, and those that another speaks for."""

    ran: set[str] = field(default_factory=set)
    carried: dict[str, str] = field(default_factory=dict)


def spoken_at(
    session: Session, repo_id: int, workflows: Collection[str], shas: Collection[str]
) -> Mapping[str, Spoken]:
    """For each workflow. Runs of forks speak for nobody."""
    found: defaultdict[str, Spoken] = defaultdict(Spoken)
    runs = session.exec(
        select(Run.workflow, Run.sha).where(
            Run.repo_id == repo_id,
            col(Run.workflow).in_(workflows),
            col(Run.sha).in_(shas),
            col(Run.is_clean).is_(True),
            col(Run.trusted).is_(True),
        )
    ).all()
    for workflow, sha in runs:
        found[workflow].ran.add(sha)
    rows = session.exec(
        select(NotNeeded.workflow, NotNeeded.sha, NotNeeded.carried_sha).where(
            NotNeeded.repo_id == repo_id,
            col(NotNeeded.workflow).in_(workflows),
            col(NotNeeded.sha).in_(shas),
            NotNeeded.carried_sha != "",
        )
    ).all()
    for workflow, sha, carried in rows:
        found[workflow].carried[sha] = carried
    return found


def carriers_of(session: Session, run: Run) -> Sequence[str]:
    """Of the commits that the run's commit speaks for, of its workflow, the present heads, and those shown as going on
    still; what else stands at commits before the heads is nobody's to merge any more."""
    heads = select(Head.sha).where(Head.repo_id == run.repo_id)
    pulls = select(PullRequest.head_sha).where(PullRequest.repo_id == run.repo_id, col(PullRequest.is_open).is_(True))
    pending = exists().where(
        col(ForgeReport.repo_id) == NotNeeded.repo_id,
        col(ForgeReport.kind) == "status",
        col(ForgeReport.target) == col(NotNeeded.sha) + ":dstack/" + col(NotNeeded.workflow),
        col(ForgeReport.digest).startswith("pending:"),
    )
    return session.exec(
        select(NotNeeded.sha).where(
            NotNeeded.repo_id == run.repo_id,
            NotNeeded.carried_sha == run.sha,
            NotNeeded.workflow == run.workflow,
            col(NotNeeded.sha).in_(heads) | col(NotNeeded.sha).in_(pulls) | pending,
        )
    ).all()


def speaking_runs(session: Session, rows: Sequence[NotNeeded]) -> dict[str, Run]:
    """Workflow -> the newest clean run of it on the commit that speaks for this one; one that gave way to other work
    only where there is no other."""
    found = {}
    for row in rows:
        if not row.carried_sha:
            continue
        runs = session.exec(
            select(Run)
            .where(
                Run.repo_id == row.repo_id,
                Run.workflow == row.workflow,
                Run.sha == row.carried_sha,
                col(Run.is_clean).is_(True),
                col(Run.trusted).is_(True),
            )
            .order_by(col(Run.id))
        ).all()
        heard = [run for run in runs if run.reason is not Reason.SUPERSEDED_BY] or runs
        if heard:
            found[row.workflow] = heard[-1]
    return found
