"""Jobs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlmodel import Session, col, select

from dstack.server.models import JobRow, Run
from dstack.wire.states import JobState


def job_by_id(session: Session, job_id: int) -> JobRow:
    job = session.get(JobRow, job_id)
    assert job is not None, f"job {job_id} is referred to and must exist"
    return job


def jobs_of_run(session: Session, run_id: int) -> Sequence[JobRow]:
    return session.exec(select(JobRow).where(JobRow.run_id == run_id).order_by(col(JobRow.position))).all()


def jobs_of_runs(session: Session, run_ids: Sequence[int]) -> Sequence[JobRow]:
    if not run_ids:
        return []
    return session.exec(
        select(JobRow).where(col(JobRow.run_id).in_(run_ids)).order_by(col(JobRow.run_id), col(JobRow.position))
    ).all()


@dataclass(frozen=True, slots=True)
class Queued:
    """What assigning must know of a job. The queue is read at every change, so whole rows of it would be too dear."""

    id: int
    run_id: int
    spec: dict[str, Any]
    waits_for: str
    trusted: bool


def jobs_queued(session: Session, now: float) -> Sequence[Queued]:
    """Jobs ready for a machine, in queue order: a retried job keeps its place, so it is ahead of newer ones."""
    rows = session.exec(
        select(JobRow.id, JobRow.run_id, JobRow.spec, JobRow.waits_for, Run.trusted)  # type: ignore[call-overload]
        .join(Run, col(Run.id) == JobRow.run_id)
        .where(
            JobRow.state == JobState.QUEUED,
            col(JobRow.not_before).is_(None) | (col(JobRow.not_before) <= now),
        )
        .order_by(col(JobRow.queued_at), col(JobRow.id))
    ).all()
    return [
        Queued(job_id or 0, run_id, dict(spec), waits_for, trusted) for job_id, run_id, spec, waits_for, trusted in rows
    ]
