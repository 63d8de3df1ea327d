"""Artifacts."""

from __future__ import annotations

from collections.abc import Sequence

from sqlmodel import Session, col, select

from dstack.server.models import Artifact, Attempt
from dstack.wire.states import AttemptState


def artifact_by_id(session: Session, artifact_id: int) -> Artifact | None:
    return session.get(Artifact, artifact_id)


def artifacts_of_attempt(session: Session, attempt_id: str) -> Sequence[Artifact]:
    return session.exec(select(Artifact).where(Artifact.attempt_id == attempt_id).order_by(col(Artifact.path))).all()


def artifact_of_attempt(session: Session, attempt_id: str, path: str) -> Artifact | None:
    return session.exec(select(Artifact).where(Artifact.attempt_id == attempt_id, Artifact.path == path)).first()


def artifacts_of_runs(session: Session, run_ids: Sequence[int]) -> Sequence[Artifact]:
    """What the newest attempt of each job stored: results of an attempt that lost its lease do not count."""
    if not run_ids:
        return []
    rows = session.exec(
        select(Artifact, Attempt)
        .join(Attempt, col(Attempt.id) == Artifact.attempt_id)
        .where(col(Artifact.run_id).in_(run_ids), col(Attempt.state) != AttemptState.LOST)
        .order_by(col(Attempt.number), col(Artifact.path))
    ).all()
    newest = {attempt.job_id: attempt.number for _, attempt in rows}
    return [artifact for artifact, attempt in rows if attempt.number == newest[attempt.job_id]]
