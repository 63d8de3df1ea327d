"""Renews leases, checks who holds one, and ends those that ran out."""

from __future__ import annotations

from sqlmodel import Session

from dstack.errors import LeaseLost, NotFound
from dstack.server.decide.retry import after_attempt
from dstack.server.decide.states import Event
from dstack.server.models import Attempt, JobRow, Runner
from dstack.server.store.attempts import attempt_by_id, attempts_with_lease_before, live_attempts, stops_wanted
from dstack.server.store.jobs import job_by_id
from dstack.server.store.runners import runner_by_id
from dstack.server.transitions.jobs import move_job
from dstack.server.vault import Vault
from dstack.wire.runner import LEASE_S, Renewed, Stop
from dstack.wire.states import AttemptState, Reason


def held_attempt(session: Session, runner: Runner, attempt_id: str, lease: str, vault: Vault) -> Attempt:
    """The live attempt, if this runner and this fencing token hold it. Every write of a runner goes through here.

    Raises NotFound for another runner's attempt (it may not know of it) and LeaseLost for a stale token or an end.
    """
    attempt = attempt_by_id(session, attempt_id)
    if attempt is None or attempt.runner_id != runner.id:
        raise NotFound("there is no such attempt")
    if not vault.is_lease(attempt_id, lease):
        raise LeaseLost("the lease token is not this attempt's", "Stop the job.")
    if attempt.state.is_final:
        raise LeaseLost(f"the attempt has ended ({attempt.state.value})", "Stop the job.")
    return attempt


def renew_leases(
    session: Session, runner: Runner, leases: dict[str, str], vault: Vault, now: float, lease_s: int = LEASE_S
) -> Renewed:
    """Give each attempt still held a fresh term; name those to stop and those already lost."""
    held: list[str] = []
    lost: list[Stop] = []
    for attempt_id, lease in leases.items():
        try:
            attempt = held_attempt(session, runner, attempt_id, lease, vault)
        except (LeaseLost, NotFound):
            lost.append(Stop(attempt_id, Reason.RUNNER_LOST, 0, lost=True))
            continue
        attempt.lease_until = now + lease_s
        session.add(attempt)
        held.append(attempt_id)
    runner.last_seen_at = now
    session.add(runner)
    session.flush()
    stops = [stop for stop in stops_for(session, runner) if stop.attempt in leases]
    return Renewed(tuple(held), (*stops, *lost), lease_s)


def stops_for(session: Session, runner: Runner) -> list[Stop]:
    """What this runner must stop."""
    return [_stop(attempt, job) for attempt, job in stops_wanted(session, runner.id or 0)]


def grant_fresh_terms(session: Session, now: float, lease_s: int = LEASE_S) -> int:
    """At the server's start: while it was away nobody could renew, so no lease may have run out for that."""
    attempts = live_attempts(session)
    for attempt in attempts:
        attempt.lease_until = now + lease_s
        session.add(attempt)
    return len(attempts)


def expire_leases(session: Session, now: float, lease_s: int = LEASE_S) -> int:
    """End attempts whose machine vanished; their jobs are queued again while their retries last."""
    expired = attempts_with_lease_before(session, now)
    for attempt in expired:
        lose_attempt(session, attempt, now, lease_s)
    return len(expired)


def lose_attempt(session: Session, attempt: Attempt, now: float, lease_s: int = LEASE_S) -> None:
    """The attempt is lost: fenced off for ever, its job requeued or ended."""
    attempt.state, attempt.reason, attempt.finished_at = AttemptState.LOST, Reason.RUNNER_LOST, now
    attempt.message = f"{attempt.runner_name} was not heard from for {lease_s} s"
    session.add(attempt)
    runner = runner_by_id(session, attempt.runner_id)
    if runner is not None and runner.last_seen_at < now - lease_s:
        runner.doubt(now)
        session.add(runner)
    job = job_by_id(session, attempt.job_id)
    event = after_attempt(
        AttemptState.LOST,
        Reason.RUNNER_LOST,
        machine_fault=True,
        stop_requested=job.stop_reason is not None,
        retry=job.read_spec().retry,
        retries=job.retries,
    )
    if event is Event.REQUEUE:
        job.retries += 1
        move_job(session, job, event, now=now)
    elif event is Event.STOP:
        move_job(session, job, event, now=now, reason=job.stop_reason, message=job.stop_message)
    else:
        move_job(session, job, event, now=now, reason=Reason.RUNNER_LOST, message=attempt.message)


def _stop(attempt: Attempt, job: JobRow) -> Stop:
    assert job.stop_reason is not None
    return Stop(attempt.id, job.stop_reason, job.read_spec().stop_grace_s)
