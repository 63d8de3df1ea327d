"""What may be pruned, and what must stay."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass

from sqlalchemy import ColumnElement, tuple_
from sqlmodel import Session, case, col, delete, select

from dstack.server.models import (
    Artifact,
    Attempt,
    Delivery,
    Group,
    Head,
    JobRow,
    Metric,
    NotNeeded,
    PullRequest,
    Repo,
    Run,
    RunInput,
    RunNeed,
    Tag,
    TagMove,
    Upload,
)
from dstack.server.models.delivery import DeliveryState
from dstack.server.models.repo import GITHUB, LOCAL_FORGE
from dstack.server.store.reports import forget_reports
from dstack.wire.states import FINAL_STATES


@dataclass(frozen=True, slots=True)
class OldRuns:
    """A slice of the runs that ended long ago, newest first: `going` may go, so many are `held` back by a run that was
    given their artifacts and stays. The next slice begins below the id `below`; None: there is none."""

    going: Sequence[Run]
    held: int
    below: int | None


def prunable_runs(session: Session, before: float, *, below: int | None, gone: Set[int], limit: int) -> OldRuns:
    """Ended before `before`, without a tag, and not the source of an artifact of a run that stays; `gone` do not. What
    speaks for a present head stays too: without it the next one would be told as not needed, whatever became of it."""
    wanted = select(Run).where(
        col(Run.state).in_(FINAL_STATES),
        col(Run.finished_at) < before,
        col(Run.id).not_in(select(Tag.run_id)),
        ~_speaks_for_a_head(),
    )
    if below is not None:
        wanted = wanted.where(col(Run.id) < below)
    found = session.exec(wanted.order_by(col(Run.id).desc()).limit(limit)).all()
    old = [run for run in found if run.id not in gone]
    uses = session.exec(
        select(RunInput.run_id, RunInput.source_id).where(col(RunInput.source_id).in_([run.id for run in old]))
    ).all()
    adopters = select(Run.id, Run.adopted_id).where(col(Run.adopted_id).in_([run.id for run in old]))
    uses = [*uses, *session.exec(adopters).all()]
    going = {run.id for run in old}
    while sources := {source for user, source in uses if source in going and user not in going and user not in gone}:
        going -= sources
    below = found[-1].id if len(found) == limit else None
    return OldRuns([run for run in old if run.id in going], len(old) - len(going), below)


def _speaks_for_a_head() -> ColumnElement[bool]:
    """Clean runs of pushes at the heads of a forge's branches, and at earlier commits that speak for a head."""
    heads = select(Head.repo_id, Head.sha).join(Repo, col(Repo.id) == Head.repo_id).where(Repo.forge != LOCAL_FORGE)
    pulls = select(PullRequest.repo_id, PullRequest.head_sha).where(col(PullRequest.is_open).is_(True))
    noted = tuple_(col(NotNeeded.repo_id), col(NotNeeded.sha))
    carried = select(NotNeeded.repo_id, NotNeeded.workflow, NotNeeded.carried_sha).where(
        NotNeeded.carried_sha != "", noted.in_(heads) | noted.in_(pulls)
    )
    is_carried = tuple_(col(Run.repo_id), col(Run.workflow), col(Run.sha)).in_(carried)
    is_at_head = col(Run.pull_request).is_(None) & tuple_(col(Run.repo_id), col(Run.sha)).in_(heads)
    return col(Run.is_clean).is_(True) & col(Run.trusted).is_(True) & (is_carried | is_at_head)


def artifacts_to_prune(session: Session, run_ids: Sequence[int]) -> Sequence[Artifact]:
    return session.exec(select(Artifact).where(col(Artifact.run_id).in_(run_ids))).all()


def digests_kept(session: Session, gone: Set[int]) -> set[str]:
    """Manifests that artifacts of other runs refer to."""
    return {digest for run, digest in session.exec(select(Artifact.run_id, Artifact.digest)) if run not in gone}


def delete_runs(session: Session, run_ids: Sequence[int]) -> None:
    """The runs and all that hangs on them."""
    groups = session.exec(select(Run.group_id).where(col(Run.id).in_(run_ids)).distinct()).all()
    jobs = select(JobRow.id).where(col(JobRow.run_id).in_(run_ids))
    attempts = select(Attempt.id).where(col(Attempt.job_id).in_(jobs))
    session.exec(delete(Metric).where(col(Metric.attempt_id).in_(attempts)))
    session.exec(delete(Upload).where(col(Upload.attempt_id).in_(attempts)))
    session.exec(delete(Artifact).where(col(Artifact.run_id).in_(run_ids)))
    session.exec(delete(Attempt).where(col(Attempt.job_id).in_(jobs)))
    session.exec(delete(JobRow).where(col(JobRow.run_id).in_(run_ids)))
    session.exec(delete(RunNeed).where(col(RunNeed.run_id).in_(run_ids) | col(RunNeed.needs_id).in_(run_ids)))
    session.exec(delete(RunInput).where(col(RunInput.run_id).in_(run_ids)))
    session.exec(delete(TagMove).where(col(TagMove.run_id).in_(run_ids)))
    forget_reports(session, run_ids)
    session.exec(delete(Run).where(col(Run.id).in_(run_ids)))
    left = select(Run.group_id).where(col(Run.group_id).in_(groups))
    session.exec(delete(Group).where(col(Group.id).in_(groups), col(Group.id).not_in(left)))


def delete_deliveries(session: Session, before: float, told_before: float) -> None:
    """What was handled before `before` and made nothing that is left; what a forge told us only from before
    `told_before`, for it may tell the same again."""
    made = select(Group.delivery_id).where(col(Group.delivery_id).is_not(None))
    session.exec(
        delete(Delivery).where(
            col(Delivery.state) != DeliveryState.RECEIVED,
            col(Delivery.processed_at) < case((col(Delivery.kind) == GITHUB, told_before), else_=before),
            col(Delivery.id).not_in(made),
        )
    )


def commits_kept(session: Session, repo_id: int, objects: str = "") -> dict[str, str]:
    """Run name -> commit, for every run that is left whose commit lies in the repo itself, or in `objects`."""
    rows = session.exec(select(Run.name, Run.sha).where(Run.repo_id == repo_id, Run.objects == objects)).all()
    return dict(rows)
