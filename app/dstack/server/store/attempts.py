"""Attempts and the offers before them."""

from __future__ import annotations

from collections.abc import Sequence

from sqlmodel import Session, col, select

from dstack.server.models import Attempt, JobRow, Offer
from dstack.wire.states import AttemptState

_LIVE = (AttemptState.PREPARING, AttemptState.RUNNING, AttemptState.SAVING)


def attempt_by_id(session: Session, attempt_id: str) -> Attempt | None:
    return session.get(Attempt, attempt_id)


def live_attempts(session: Session) -> Sequence[Attempt]:
    return session.exec(select(Attempt).where(col(Attempt.state).in_(_LIVE))).all()


def live_attempts_of_runner(session: Session, runner_id: int) -> Sequence[Attempt]:
    return session.exec(select(Attempt).where(Attempt.runner_id == runner_id, col(Attempt.state).in_(_LIVE))).all()


def live_attempt_of_job(session: Session, job_id: int) -> Attempt | None:
    return session.exec(select(Attempt).where(Attempt.job_id == job_id, col(Attempt.state).in_(_LIVE))).first()


def attempts_with_lease_before(session: Session, moment: float) -> Sequence[Attempt]:
    return session.exec(select(Attempt).where(col(Attempt.state).in_(_LIVE), Attempt.lease_until < moment)).all()


def attempts_of_jobs(session: Session, job_ids: Sequence[int]) -> Sequence[Attempt]:
    """Oldest first for each job."""
    if not job_ids:
        return []
    return session.exec(
        select(Attempt).where(col(Attempt.job_id).in_(job_ids)).order_by(col(Attempt.job_id), col(Attempt.number))
    ).all()


def stops_wanted(session: Session, runner_id: int) -> Sequence[tuple[Attempt, JobRow]]:
    """Live attempts of a runner whose job was asked to stop."""
    return session.exec(
        select(Attempt, JobRow)
        .join(JobRow, col(JobRow.id) == Attempt.job_id)
        .where(
            Attempt.runner_id == runner_id,
            col(Attempt.state).in_(_LIVE),
            col(JobRow.stop_reason).is_not(None),
        )
    ).all()


def offer_by_id(session: Session, offer_id: str) -> Offer | None:
    return session.get(Offer, offer_id)


def offer_of_job(session: Session, job_id: int) -> Offer | None:
    return session.exec(select(Offer).where(Offer.job_id == job_id)).first()


def all_offers(session: Session) -> Sequence[Offer]:
    return session.exec(select(Offer)).all()


def offers_of_runner(session: Session, runner_id: int) -> Sequence[Offer]:
    return session.exec(select(Offer).where(Offer.runner_id == runner_id)).all()


def offers_expired(session: Session, now: float) -> Sequence[Offer]:
    return session.exec(select(Offer).where(Offer.expires_at < now)).all()
