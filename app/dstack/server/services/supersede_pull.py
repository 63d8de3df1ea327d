"""Stops runs of a pull request that nobody waits for any more and that have not started."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlmodel import Session

from dstack.server.models import PullRequest, Run
from dstack.server.store.jobs import jobs_of_run
from dstack.server.store.pulls import PULL_TRIGGERS, runs_made_for_pull
from dstack.server.transitions.jobs import stop_job
from dstack.wire.states import Reason, Trigger

CLOSED = "pull request closed"


def supersede_pull(session: Session, pull: PullRequest, made: Sequence[Run], now: float) -> None:
    """Runs of another head or base than the pull request has now give way to those of its present one, of the same
    workflow; the cause is named. `made` are new: where they are of an older head (the news came late), they give way
    themselves."""
    for run in reversed(made):  # those that need others first: else the end of what they need would be their reason
        same = [other for other in _open_runs(session, pull) if other.workflow == run.workflow]
        if _is_current(pull, run):
            for older in same:
                if older.group_id != run.group_id and (older.id or 0) < (run.id or 0):
                    _stop(session, older, run.name, now)
        else:
            _stop(session, run, _cause(session, pull, run.workflow), now)


def stop_closed(session: Session, pull: PullRequest, cancel_running: Collection[str], now: float) -> int:
    """The pull request is closed: what has not started is stopped, of the workflows in `cancel_running` also what runs.
    How many runs were."""
    runs = _open_runs(session, pull, (Trigger.PULL_REQUEST, Trigger.COMMENT))
    return sum(_stop(session, run, CLOSED, now, also_running=run.workflow in cancel_running) for run in reversed(runs))


def running_workflows(session: Session, pull: PullRequest) -> set[tuple[str, str, str]]:
    """(workflow, bare repository, commit) of its runs that have started and not ended."""
    return {(run.workflow, run.git_id, run.sha) for run in _open_runs(session, pull) if run.started_at is not None}


def let_run_again(session: Session, pull: PullRequest) -> None:
    """It was reopened: runs of its head that were stopped only because it was closed give up their natural keys, so
    that they, and what needs them, are made anew."""
    for run in runs_made_for_pull(session, pull):
        if run.sha == pull.head_sha and run.reason is Reason.SUPERSEDED_BY and run.message == CLOSED:
            run.key = None
            session.add(run)


def _is_current(pull: PullRequest, run: Run) -> bool:
    return pull.is_open and run.sha == pull.head_sha and run.base_branch == pull.base_branch


def _cause(session: Session, pull: PullRequest, workflow: str) -> str:
    if not pull.is_open:
        return CLOSED
    of_head = [run for run in runs_made_for_pull(session, pull) if run.workflow == workflow and _is_current(pull, run)]
    return of_head[-1].name if of_head else f"the head {pull.head_sha[:7]}"


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
