"""Approvals of commits of forks, and what runs under them."""

from __future__ import annotations

from collections.abc import Sequence

from sqlmodel import Session, col, select

from dstack.server.models import Approval, Attempt, JobRow, PullRequest, Run
from dstack.wire.states import FINAL_STATES, JobState


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


def runs_under(session: Session, repo_id: int, number: int, sha: str) -> Sequence[Run]:
    """Runs of a pull request at this commit that need approval, oldest first."""
    return session.exec(
        select(Run)
        .where(Run.repo_id == repo_id, Run.pull_request == number, Run.sha == sha, col(Run.needs_approval))
        .order_by(col(Run.id))
    ).all()


def attempts_under(session: Session, approval: Approval) -> Sequence[Attempt]:
    """Every attempt of every run at the approved commit of the pull request."""
    runs = runs_under(session, approval.repo_id, approval.number, approval.sha)
    return session.exec(
        select(Attempt)
        .join(JobRow, col(JobRow.id) == Attempt.job_id)
        .where(col(JobRow.run_id).in_([run.id for run in runs]))
    ).all()


def outdated_held_runs(session: Session) -> Sequence[tuple[Run, str]]:
    """Runs that wait for the approval of a commit that is not the head of their pull request any more, or goes to
    another branch now, and the head."""
    # All jobs of a held run wait, and so does the run: by its state the few are found among all that ever were.
    return session.exec(
        select(Run, PullRequest.head_sha)
        .join(PullRequest, (col(PullRequest.repo_id) == Run.repo_id) & (col(PullRequest.number) == Run.pull_request))
        .where(
            col(Run.needs_approval),
            Run.approved_by == "",
            Run.state == JobState.WAITING,
            (col(PullRequest.head_sha) != Run.sha) | (col(PullRequest.base_branch) != Run.base_branch),
        )
        .order_by(col(Run.id))
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
            Run.state == JobState.WAITING,
        )
        .order_by(col(Run.id))
    ).all()
