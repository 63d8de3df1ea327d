"""Runs that others are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlmodel import Session, col, select

from dstack.server.models import Run
from dstack.wire.states import FINAL_STATES, JobState


@dataclass(frozen=True, slots=True)
class CleanRun:
    """What choosing a base must know of a run; `result_id` is the run whose work it is."""

    id: int
    sha: str
    state: JobState
    result_id: int


def clean_runs_at(session: Session, run: Run, shas: Sequence[str]) -> list[CleanRun]:
    """The other clean and trusted runs of the run's workflow on these commits."""
    rows = session.exec(
        select(Run.id, Run.sha, Run.state, Run.adopted_id).where(
            Run.repo_id == run.repo_id,
            Run.workflow == run.workflow,
            col(Run.sha).in_(shas),
            col(Run.is_clean).is_(True),
            col(Run.trusted).is_(True),
            Run.id != run.id,
        )
    ).all()
    return [CleanRun(run_id or 0, sha, JobState(state), adopted or run_id or 0) for run_id, sha, state, adopted in rows]


def ended_runs_based_on(session: Session, run_id: int) -> Sequence[Run]:
    """Those that were compared with this run before it had ended."""
    return session.exec(
        select(Run).where(Run.base_run_id == run_id, col(Run.state).in_(FINAL_STATES)).order_by(col(Run.id))
    ).all()
