"""Lets the runs of a fork's pull request begin, at the commit that somebody with write access has looked at."""

from __future__ import annotations

from collections.abc import Sequence

from sqlmodel import Session

from dstack.errors import Conflict, NotFound
from dstack.server.decide.trust import approved_commit
from dstack.server.models import Approval, PullRequest, Repo, Run
from dstack.server.store.approvals import runs_under
from dstack.server.store.github import approval_of, pull_by_number
from dstack.server.store.outbox import mark_run_outdated
from dstack.server.store.repos import repo_by_id
from dstack.server.transitions.release import release_or_wait


def approve_pull(
    session: Session,
    repo: Repo,
    number: int,
    sha: str,
    *,
    by: str,
    gpu_seconds: float | None,
    now: float,
    seen_base: str | None = None,
) -> Sequence[Run]:
    """Approve the head of a pull request, which `sha` names, for `gpu_seconds` from now (None: no limit); answers its
    runs at that commit that go on now. The caller has made sure that `by` may do so.

    It holds for the branch that the pull request goes to now. Another approval of the same commit takes the place of
    the first, with a budget of its own. `seen_base`: the branch it went to where `by` looked at it. Raises NotFound,
    Conflict when there is nothing to approve or it goes elsewhere now, and Invalid when `sha` is not the head.
    """
    pull = pull_by_number(session, repo.id or 0, number)
    if pull is None:
        raise NotFound(f"{repo.full_name} has no pull request #{number} that this server knows")
    _check_waits(pull)
    if seen_base is not None and seen_base != pull.base_branch:
        raise Conflict(f"#{number} goes to {pull.base_branch} now, not to {seen_base}", "Look at its new runs first.")
    head = approved_commit(sha, pull.head_sha)
    _record(session, pull, head, by, gpu_seconds, now)
    runs = [
        run
        for run in runs_under(session, repo.id or 0, number, head)
        if not run.state.is_final and run.base_branch == pull.base_branch
    ]
    held = [run for run in runs if run.is_held]
    for run in runs:
        run.approved_by = by
        session.add(run)
    session.flush()
    for run in held:
        release_or_wait(session, run, now)
        mark_run_outdated(session, run, now)
    return runs


def _record(session: Session, pull: PullRequest, head: str, by: str, gpu_seconds: float | None, now: float) -> None:
    """The one approval that a commit of a pull request has."""
    approval = approval_of(session, pull.repo_id, pull.number, head)
    if approval is None:
        approval = Approval(
            repo_id=pull.repo_id, number=pull.number, sha=head, base_branch="", approved_by=by, created_at=now
        )
    approval.base_branch, approval.approved_by = pull.base_branch, by
    approval.gpu_seconds, approval.created_at = gpu_seconds, now
    session.add(approval)
    session.flush()


def approve_run(session: Session, run: Run, *, by: str, gpu_seconds: float | None, now: float) -> Sequence[Run]:
    """The same for the commit of a run that waits. Raises Conflict for one that waits for no approval."""
    if not run.needs_approval or run.pull_request is None:
        raise Conflict(f"{run.name} waits for no approval", "Only runs of pull requests from forks do.")
    repo = repo_by_id(session, run.repo_id)
    number, base = run.pull_request, run.base_branch
    return approve_pull(session, repo, number, run.sha, by=by, gpu_seconds=gpu_seconds, now=now, seen_base=base)


def _check_waits(pull: PullRequest) -> None:
    if not pull.is_open:
        raise Conflict(f"#{pull.number} is closed: nothing of it runs", "Reopen it first.")
    if not pull.is_fork:
        raise Conflict(f"#{pull.number} does not come from a fork: its runs wait for nobody")
