"""Approvals of commits of forks, and what runs under them."""

from __future__ import annotations

from collections.abc import Sequence

from sqlmodel import Session, col, select
from sqlmodel.sql.expression import SelectOfScalar

from dstack.server.models import Approval, Attempt, JobRow, Run
from dstack.wire.states import FINAL_STATES


def approvals_with_budget(session: Session) -> Sequence[Approval]:
    """Those of which a run has not ended."""
    has_open = select(Run.id).where(
        Run.repo_id == Approval.repo_id,
        Run.pull_request == Approval.number,
        Run.sha == Approval.sha,
        col(Run.needs_approval),
        col(Run.state).not_in(FINAL_STATES),
    )
    return session.exec(select(Approval).where(col(Approval.gpu_seconds).is_not(None), has_open.exists())).all()


def open_runs_of_commit(session: Session, repo_id: int, number: int, sha: str) -> Sequence[Run]:
    """Runs of a pull request at this commit that need approval and have not ended, oldest first."""
    return session.exec(_runs_under(repo_id, number, sha).where(col(Run.state).not_in(FINAL_STATES))).all()


def attempts_under(session: Session, approval: Approval) -> Sequence[Attempt]:
    """Every attempt of every run at the approved commit of the pull request."""
    runs = session.exec(_runs_under(approval.repo_id, approval.number, approval.sha)).all()
    return session.exec(
        select(Attempt)
        .join(JobRow, col(JobRow.id) == Attempt.job_id)
        .where(col(JobRow.run_id).in_([run.id for run in runs]))
    ).all()


def held_runs_of_pull(session: Session, repo_id: int, number: int) -> Sequence[Run]:
    """Runs of a pull request that wait for an approval, whatever their commit, oldest first."""
    return session.exec(
        select(Run)
        .where(
            Run.repo_id == repo_id,
            Run.pull_request == number,
            col(Run.needs_approval),
            Run.approved_by == "",
            col(Run.state).not_in(FINAL_STATES),
        )
        .order_by(col(Run.id))
    ).all()


def _runs_under(repo_id: int, number: int, sha: str) -> SelectOfScalar[Run]:
    return (
        select(Run)
        .where(Run.repo_id == repo_id, Run.pull_request == number, Run.sha == sha, col(Run.needs_approval))
        .order_by(col(Run.id))
    )
