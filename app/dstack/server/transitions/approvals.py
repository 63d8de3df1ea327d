"""Whether a held run may begin: by an approval of its very commit, while that is the head and has budget left."""

from __future__ import annotations

from sqlmodel import Session

from dstack.server.decide.budget import Usage, gpu_seconds_used, is_used_up
from dstack.server.models import Approval, Run
from dstack.server.store.approvals import attempts_under
from dstack.server.store.github import approval_of, pull_by_number


def take_approval(session: Session, run: Run, now: float) -> None:
    """Let a new run that needs approval begin where its commit has one in force; else it stays held."""
    approval = approval_in_force(session, run, now) if run.needs_approval else None
    run.approved_by = approval.approved_by if approval is not None else ""
    session.add(run)


def approval_in_force(session: Session, run: Run, now: float) -> Approval | None:
    """The approval of the run's commit. A push to the pull request voids it, and so do another branch to go to, and a
    budget that is used up."""
    if run.pull_request is None:
        return None
    pull = pull_by_number(session, run.repo_id, run.pull_request)
    approval = approval_of(session, run.repo_id, run.pull_request, run.sha)
    if pull is None or pull.head_sha != run.sha or approval is None or approval.base_branch != run.base_branch:
        return None
    return None if is_used_up(approval.gpu_seconds, used_under(session, approval, now)) else approval


def used_under(session: Session, approval: Approval, now: float) -> float:
    """GPU seconds since the approval was given."""
    if approval.gpu_seconds is None:
        return 0.0
    attempts = attempts_under(session, approval)
    return gpu_seconds_used(
        (Usage(len(a.devices), a.accepted_at, a.finished_at) for a in attempts), approval.created_at, now
    )
