"""Runs that came to an end, and what they followed."""

from __future__ import annotations

from collections.abc import Sequence

from sqlmodel import Session, col, func, or_, select

from dstack.server.models import Repo, Run
from dstack.wire.states import JobState, Trigger

_ENDS = (JobState.SUCCEEDED, JobState.FAILED)


def is_of_default_branch(run: Run, repo: Repo) -> bool:
    """By schedule, or by a push to the default branch: no pull request tells of it."""
    if run.pull_request is not None or run.parent_sha:
        return False
    return run.trigger is Trigger.SCHEDULE or (run.trigger is Trigger.PUSH and run.branch == repo.default_branch)


def ends_on_default_branch(session: Session, repo: Repo, workflow: str, limit: int) -> Sequence[Run]:
    """Runs `is_of_default_branch` of a workflow that succeeded or failed, newest first."""
    pushed = (col(Run.trigger) == Trigger.PUSH) & (col(Run.branch) == repo.default_branch)
    # Ids first: a sort of thousands of whole rows, reports and all, would be dear.
    ids = session.exec(
        select(Run.id)
        .where(
            Run.repo_id == repo.id,
            Run.workflow == workflow,
            col(Run.state).in_(_ENDS),
            col(Run.pull_request).is_(None),
            Run.parent_sha == "",
            or_(col(Run.trigger) == Trigger.SCHEDULE, pushed),
        )
        .order_by(col(Run.id).desc())
        .limit(limit)
    ).all()
    return session.exec(select(Run).where(col(Run.id).in_(ids)).order_by(col(Run.id).desc())).all()


def end_before(session: Session, run: Run) -> Run | None:
    """The newest run before it of the same workflow, branch, pull request and trigger that succeeded or failed."""
    same_pull = (
        col(Run.pull_request).is_(None) if run.pull_request is None else col(Run.pull_request) == run.pull_request
    )
    before = session.exec(
        select(func.max(Run.id)).where(
            Run.repo_id == run.repo_id,
            Run.workflow == run.workflow,
            Run.branch == run.branch,
            Run.trigger == run.trigger,
            same_pull,
            col(Run.state).in_(_ENDS),
            col(Run.id) < (run.id or 0),
        )
    ).one()
    return session.get(Run, before) if before is not None else None
