"""Lets a new or newly approved run begin, or says in words what it waits for."""

from __future__ import annotations

from sqlmodel import Session

from dstack.server.decide.states import Event
from dstack.server.models import Run
from dstack.server.store.jobs import jobs_of_run
from dstack.server.store.outbox import mark_run_outdated
from dstack.server.store.runs import runs_needed_by
from dstack.server.transitions.jobs import move_job
from dstack.server.transitions.runs import how_it_ended, is_ready, what_it_waits_for
from dstack.wire.states import JobState, Reason


def release_or_wait(session: Session, run: Run, now: float) -> None:
    """Queue the waiting jobs of `run` when nothing stands before it; skip them when what it needs can come no more. One
    that adopted another waits for that."""
    if run.adopted_id is not None:
        return
    jobs = [job for job in jobs_of_run(session, run.id or 0) if job.state is JobState.WAITING]
    needed = runs_needed_by(session, run.id or 0)
    # What it needs may have ended before there was anybody to tell: at its own making, or on an earlier push.
    if ended := next((r for r in needed if r.state.is_final and r.state is not JobState.SUCCEEDED), None):
        for job in jobs:
            move_job(session, job, Event.SKIP, now=now, reason=Reason.DEPENDENCY_FAILED, message=how_it_ended(ended))
        return
    if is_ready(session, run):
        for job in jobs:
            move_job(session, job, Event.RELEASE, now=now)
        return
    why = what_it_waits_for(session, run)
    for job in jobs:
        job.waits_for = why
        session.add(job)
    mark_run_outdated(session, run, now)
