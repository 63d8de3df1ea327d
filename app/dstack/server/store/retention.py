"""What may be pruned, and what must stay."""

from __future__ import annotations

from collections.abc import Sequence

from sqlmodel import Session, col, delete, select

from dstack.server.models import (
    Artifact,
    Attempt,
    Delivery,
    Group,
    JobRow,
    Metric,
    Run,
    RunInput,
    RunNeed,
    Tag,
    TagMove,
)
from dstack.server.models.delivery import DeliveryState
from dstack.wire.states import FINAL_STATES


def prunable_runs(session: Session, before: float) -> Sequence[Run]:
    """Ended before `before`, without a tag, and not the source of an artifact of a run that stays."""
    old = session.exec(
        select(Run).where(
            col(Run.state).in_(FINAL_STATES),
            col(Run.finished_at) < before,
            col(Run.id).not_in(select(Tag.run_id)),
        )
    ).all()
    going = {run.id for run in old}
    while True:
        sources = session.exec(
            select(RunInput.source_id).where(col(RunInput.source_id).in_(going), col(RunInput.run_id).not_in(going))
        ).all()
        if not sources:
            return [run for run in old if run.id in going]
        going -= set(sources)


def artifacts_to_prune(session: Session, run_ids: Sequence[int]) -> Sequence[Artifact]:
    return session.exec(select(Artifact).where(col(Artifact.run_id).in_(run_ids))).all()


def digests_kept(session: Session, run_ids: Sequence[int]) -> set[str]:
    """Manifests that artifacts of other runs refer to."""
    return set(session.exec(select(Artifact.digest).where(col(Artifact.run_id).not_in(run_ids))).all())


def delete_runs(session: Session, run_ids: Sequence[int]) -> None:
    """The runs and all that hangs on them."""
    jobs = select(JobRow.id).where(col(JobRow.run_id).in_(run_ids))
    attempts = select(Attempt.id).where(col(Attempt.job_id).in_(jobs))
    session.exec(delete(Metric).where(col(Metric.attempt_id).in_(attempts)))
    session.exec(delete(Artifact).where(col(Artifact.run_id).in_(run_ids)))
    session.exec(delete(Attempt).where(col(Attempt.job_id).in_(jobs)))
    session.exec(delete(JobRow).where(col(JobRow.run_id).in_(run_ids)))
    session.exec(delete(RunNeed).where(col(RunNeed.run_id).in_(run_ids) | col(RunNeed.needs_id).in_(run_ids)))
    session.exec(delete(RunInput).where(col(RunInput.run_id).in_(run_ids)))
    session.exec(delete(TagMove).where(col(TagMove.run_id).in_(run_ids)))
    session.exec(delete(Run).where(col(Run.id).in_(run_ids)))
    session.exec(delete(Group).where(col(Group.id).not_in(select(Run.group_id))))


def delete_deliveries(session: Session, before: float) -> None:
    """What was handled before `before` and made nothing that is left."""
    made = select(Group.delivery_id).where(col(Group.delivery_id).is_not(None))
    session.exec(
        delete(Delivery).where(
            col(Delivery.state) != DeliveryState.RECEIVED,
            col(Delivery.processed_at) < before,
            col(Delivery.id).not_in(made),
        )
    )


def commits_kept(session: Session, repo_id: int) -> dict[str, str]:
    """Run name -> commit, for every run that is left."""
    rows = session.exec(select(Run.name, Run.sha).where(Run.repo_id == repo_id)).all()
    return dict(rows)
