"""Stops runs of a pull request that nobody waits for any more and that have not started."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlmodel import Session

from dstack.server.decide.superseding import CLOSED, the_base, the_head
from dstack.server.models import PullRequest, Run
from dstack.server.store.jobs import jobs_of_run
from dstack.server.store.pulls import PULL_TRIGGERS, runs_made_for_pull
from dstack.server.transitions.jobs import stop_job
from dstack.server.transitions.second_chances import let_run_again
from dstack.wire.states import Reason, Trigger


def supersede_pull(session: Session, pull: PullRequest, now: float) -> None:
    """Runs of another head or base than the pull request has now give way to those of its present one, whether any were
    made for that just now or not; the cause is named."""
    for run in reversed(_open_runs(session, pull)):  # those that need others first: else their end would be the reason
        if not _is_current(pull, run):
            _stop(session, run, _cause(session, pull, run), now)


def stop_closed(session: Session, pull: PullRequest, cancel_running: Collection[str], now: float) -> int:
    """The pull request is closed: what has not started is stopped, of the workflows in `cancel_running` also what runs.
    How many runs were."""
    runs = _open_runs(session, pull, (Trigger.PULL_REQUEST, Trigger.COMMENT))
    return sum(_stop(session, run, CLOSED, now, also_running=run.workflow in cancel_running) for run in reversed(runs))


def running_workflows(session: Session, pull: PullRequest) -> set[tuple[str, str, str]]:
    """(workflow, bare repository, commit) of its runs that have started and not ended."""
    return {(run.workflow, run.git_id, run.sha) for run in _open_runs(session, pull) if run.started_at is not None}


def let_head_run_again(session: Session, pull: PullRequest) -> None:
    """It was reopened, or goes back to a head or base it had before: what gave way to others since is made anew."""
    let_run_again(session, [run for run in runs_made_for_pull(session, pull) if _is_current(pull, run)])


def _is_current(pull: PullRequest, run: Run) -> bool:
    return pull.is_open and run.sha == pull.head_sha and run.base_branch == pull.base_branch


def _cause(session: Session, pull: PullRequest, left: Run) -> str:
    if not pull.is_open:
        return CLOSED
    made = [run for run in runs_made_for_pull(session, pull) if run.workflow == left.workflow]
    of_head = [run for run in made if _is_current(pull, run)]
    if of_head:
        return of_head[-1].name
    return the_base(pull.base_branch) if left.sha == pull.head_sha else the_head(pull.head_sha)


def _open_runs(session: Session, pull: PullRequest, triggers: Sequence[Trigger] = PULL_TRIGGERS) -> list[Run]:
    return [run for run in runs_made_for_pull(session, pull, triggers) if not run.state.is_final]


def _stop(session: Session, run: Run, cause: str, now: float, *, also_running: bool = False) -> bool:
    """Says whether it was stopped (or its runner asked to)."""
    if run.started_at is not None and not also_running:
        return False
    stopped = [
        stop_job(session, job, now=now, reason=Reason.SUPERSEDED_BY, message=cause)
        for job in jobs_of_run(session, run.id or 0)
    ]
    return any(stopped)
