"""Runs that do the same work."""

from __future__ import annotations

from collections.abc import Sequence

from sqlmodel import Session, col, select, update

from dstack.server.models import Run, RunInput, RunNeed
from dstack.wire.states import FINAL_STATES, JobState


def equal_run(session: Session, run: Run) -> Run | None:
    """The newest run that did, or is doing, the same work under the same trust; one that succeeded goes first."""
    query = select(Run).where(
        Run.repo_id == run.repo_id,
        Run.work_key == run.work_key,
        Run.trusted == run.trusted,
        col(Run.adopted_id).is_(None),
        Run.id != run.id,
    )
    if not run.trusted:
        # What was approved is a commit: of another one nothing is taken over, whatever it reads.
        query = query.where(Run.pull_request == run.pull_request, Run.sha == run.sha)
    done = session.exec(query.where(Run.state == JobState.SUCCEEDED).order_by(col(Run.id).desc()).limit(1)).first()
    if done is not None:
        return done
    under_way = query.where(col(Run.state).not_in(FINAL_STATES)).order_by(col(Run.id).desc())
    return next((other for other in session.exec(under_way).all() if not other.is_held), None)


def adopters_of(session: Session, run_id: int) -> Sequence[Run]:
    return session.exec(select(Run).where(Run.adopted_id == run_id).order_by(col(Run.id))).all()


def hand_back_inputs(session: Session, run: Run) -> None:
    """Runs that need `run` take its own artifacts as inputs again, not those of the run it had adopted."""
    needing = select(RunNeed.run_id).where(RunNeed.needs_id == run.id)
    session.exec(
        update(RunInput)
        .where(col(RunInput.run_id).in_(needing), col(RunInput.source_id) == run.adopted_id)
        .values(source_id=run.id)
    )
