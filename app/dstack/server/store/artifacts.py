"""Artifacts."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.orm import aliased
from sqlmodel import Session, col, select

from dstack.server.models import Artifact, Attempt
from dstack.wire.states import AttemptState


def artifact_by_id(session: Session, artifact_id: int) -> Artifact | None:
    return session.get(Artifact, artifact_id)


def artifact_of_attempt(session: Session, attempt_id: str, path: str) -> Artifact | None:
    return session.exec(select(Artifact).where(Artifact.attempt_id == attempt_id, Artifact.path == path)).first()


def artifacts_of_runs(session: Session, run_ids: Sequence[int]) -> Sequence[Artifact]:
    """What the newest attempt of each job stored, if it was not lost: what earlier ones left does not count."""
    if not run_ids:
        return []
    newer = aliased(Attempt)
    has_newer = select(newer.id).where(col(newer.job_id) == Attempt.job_id, col(newer.number) > Attempt.number)
    return session.exec(
        select(Artifact)
        .join(Attempt, col(Attempt.id) == Artifact.attempt_id)
        .where(col(Artifact.run_id).in_(run_ids), col(Attempt.state) != AttemptState.LOST, ~has_newer.exists())
        .order_by(col(Artifact.job_id), col(Artifact.path))
    ).all()
