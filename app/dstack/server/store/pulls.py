"""The runs of a pull request, and what is shown of them beside their own rows."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import ColumnElement
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, func, select

from dstack.server.models import Attempt, JobRow, Metric, NotNeeded, PullRequest, Run
from dstack.wire.states import Reason, Trigger

PULL_TRIGGERS = (Trigger.PULL_REQUEST,)
MOST_RUNS = 100
MOST_POINTS = 400  # of one metric of one run: more than any chart shows


def runs_of_pull(session: Session, pull: PullRequest) -> Sequence[Run]:
    """Runs made for it, and for a branch of the repository itself also those that the push of its head made; newest
    first."""
    mine = col(Run.pull_request) == pull.number
    found = list(_newest(session, pull, mine))
    if not pull.is_fork:
        pushed = col(Run.pull_request).is_(None) & (col(Run.trigger) == Trigger.PUSH)
        found += _newest(session, pull, pushed & (Run.sha == pull.head_sha) & (Run.branch == pull.head_branch))
    return sorted(found, key=lambda run: run.id or 0, reverse=True)[:MOST_RUNS]


def is_of_pull(pull: PullRequest, run: Run) -> bool:
    """Whether it is one of those `runs_of_pull` answers, however many there are."""
    if run.repo_id != pull.repo_id or run.parent_sha:
        return False
    is_push = run.pull_request is None and run.trigger is Trigger.PUSH
    at_head = (run.sha, run.branch) == (pull.head_sha, pull.head_branch)
    return run.pull_request == pull.number or (is_push and at_head and not pull.is_fork)


def _newest(session: Session, pull: PullRequest, condition: ColumnElement[bool]) -> Sequence[Run]:
    return session.exec(
        select(Run)
        .where(Run.repo_id == pull.repo_id, condition, Run.parent_sha == "")
        .order_by(col(Run.id).desc())
        .limit(MOST_RUNS)
    ).all()


def pulls_at(session: Session, repo_id: int, sha: str) -> Sequence[PullRequest]:
    """Open pull requests whose head is this commit."""
    return session.exec(
        select(PullRequest).where(
            PullRequest.head_sha == sha, PullRequest.repo_id == repo_id, col(PullRequest.is_open).is_(True)
        )
    ).all()


def is_spoken_over(session: Session, run: Run) -> bool:
    """Whether an open pull request at the run's commit has a run of the workflow of its own, which did not give way:
    that one counts there."""
    if run.pull_request is not None or not run.is_clean:
        return False
    other, pull = aliased(Run), PullRequest
    query = (
        select(other.id)
        .join(pull, (col(pull.repo_id) == other.repo_id) & (col(pull.number) == other.pull_request))
        .where(
            other.repo_id == run.repo_id,
            other.sha == run.sha,
            other.workflow == run.workflow,
            col(other.is_clean).is_(True),
            col(other.trusted).is_(True),
            col(other.reason).is_distinct_from(Reason.SUPERSEDED_BY),
            col(pull.is_open).is_(True),
            pull.head_sha == other.sha,
            pull.base_branch == other.base_branch,
        )
    )
    return session.exec(query).first() is not None


def not_needed_at(session: Session, repo_id: int, sha: str) -> Sequence[NotNeeded]:
    return session.exec(
        select(NotNeeded).where(NotNeeded.repo_id == repo_id, NotNeeded.sha == sha).order_by(col(NotNeeded.workflow))
    ).all()


def waits_of_runs(session: Session, run_ids: Collection[int]) -> dict[int, str]:
    """Run id -> what its first waiting job waits for, in words."""
    rows = session.exec(
        select(JobRow.run_id, JobRow.waits_for)
        .where(col(JobRow.run_id).in_(run_ids), JobRow.waits_for != "")
        .order_by(col(JobRow.run_id), col(JobRow.position).desc())
    ).all()
    return dict(rows)


def metric_of_run(session: Session, run_id: int, name: str) -> list[tuple[int, float]]:
    """Step and value of one metric, in order of time; about `MOST_POINTS` of them, the last one always. Of each job its
    newest attempt counts: a job that was tried again tells its story anew."""
    newest = select(func.max(Attempt.number)).where(Attempt.job_id == JobRow.id).correlate(JobRow).scalar_subquery()
    attempts = session.exec(
        select(Attempt.id)
        .join(JobRow, col(JobRow.id) == Attempt.job_id)
        .where(JobRow.run_id == run_id, Attempt.number == newest)
    ).all()
    points: list[tuple[int, float]] = []
    for attempt_id in attempts:
        mine = (Metric.attempt_id == attempt_id, Metric.name == name, col(Metric.step).is_not(None))
        count = session.exec(select(func.count()).select_from(Metric).where(*mine)).one()
        place = func.row_number().over(order_by=col(Metric.position).desc()).label("place")
        numbered = select(Metric.step, Metric.value, Metric.position, place).where(*mine).subquery()
        step, value, at = numbered.c.step, numbered.c.value, numbered.c.position
        every = max(1, count // MOST_POINTS)
        rows = session.exec(select(step, value).where((numbered.c.place - 1) % every == 0).order_by(at)).all()
        points += [(int(step), float(value)) for step, value in rows]
    return points


def runs_made_for_pull(session: Session, pull: PullRequest, triggers: Sequence[Trigger] = PULL_TRIGGERS) -> list[Run]:
    """All runs that these triggers made for it, at whatever head, oldest first."""
    return list(
        session.exec(
            select(Run)
            .where(Run.repo_id == pull.repo_id, Run.pull_request == pull.number, col(Run.trigger).in_(triggers))
            .order_by(col(Run.id))
        ).all()
    )
