"""Stops a run, and with it what waits on it."""

from __future__ import annotations

from sqlmodel import Session

from dstack.errors import Conflict
from dstack.server.models import Run
from dstack.server.store.jobs import jobs_of_run
from dstack.server.store.runs import runs_of_group
from dstack.server.transitions.jobs import stop_job
from dstack.wire.states import Reason


def stop_run(session: Session, run: Run, *, group: bool, by: str, now: float) -> None:
    """Stop `run` (runs that need it follow), or every run of its group. Raises Conflict when all have ended."""
    runs = runs_of_group(session, run.group_id) if group else [run]
    # Dependents first: otherwise stopping what they need would already have ended them for another reason.
    stopped = [
        stop_job(session, job, now=now, reason=Reason.CANCELED_BY, message=by)
        for target in reversed(runs)
        for job in jobs_of_run(session, target.id or 0)
    ]
    if not any(stopped):
        raise Conflict(f"{run.name} has already ended ({run.state.value})")
