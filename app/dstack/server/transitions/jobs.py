"""Moves a job by the table and settles its run."""

from __future__ import annotations

from sqlmodel import Session

from dstack.server.bus import QUEUE, runner_topic
from dstack.server.decide.states import Event, next_state
from dstack.server.models import JobRow
from dstack.server.store.attempts import live_attempt_of_job, offer_of_job
from dstack.server.store.database import wake
from dstack.server.transitions.runs import settle_run
from dstack.wire.states import JobState, Reason


def move_job(
    session: Session, job: JobRow, event: Event, *, now: float, reason: Reason | None = None, message: str = ""
) -> None:
    """Apply `event` to `job` and let everything that depends on it follow. Raises Conflict for an impossible move."""
    job.state = next_state(job.state, event)
    job.reason, job.message, job.waits_for = reason, message, ""
    if job.state is JobState.QUEUED:
        job.queued_at = job.queued_at or now
        wake(session, QUEUE)
    if job.state.is_final:
        job.finished_at = now
        wake(session, QUEUE)
    session.add(job)
    session.flush()
    for follow_up in settle_run(session, job.run_id, now):
        # Two ways may lead to the same job (it needs this run, and is next in its concurrency group): move it once.
        if follow_up.job.state is JobState.WAITING:
            move_job(
                session,
                follow_up.job,
                follow_up.event,
                now=now,
                reason=follow_up.reason,
                message=follow_up.message,
            )


def stop_job(session: Session, job: JobRow, *, now: float, reason: Reason, message: str) -> bool:
    """Stop a job now when no machine holds it, else ask its runner to. False when it has already ended."""
    if job.state.is_final:
        return False
    if job.state.is_live:
        job.stop_reason, job.stop_message = job.stop_reason or reason, job.stop_message or message
        session.add(job)
        wake_runner_of(session, job)
    else:
        withdraw_offer(session, job)
        move_job(session, job, Event.STOP, now=now, reason=reason, message=message)
    return True


def wake_runner_of(session: Session, job: JobRow) -> None:
    """Let the runner that executes this job hear of a change at once."""
    attempt = live_attempt_of_job(session, job.id or 0)
    if attempt is not None:
        wake(session, runner_topic(attempt.runner_id))


def withdraw_offer(session: Session, job: JobRow) -> None:
    """Take back an open offer: a runner that accepts it later is refused."""
    offer = offer_of_job(session, job.id or 0)
    if offer is not None:
        session.delete(offer)
        session.flush()
