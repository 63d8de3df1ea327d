"""Statuses that stand at the forge as green and are so no more."""

from __future__ import annotations

from collections.abc import Collection

from sqlmodel import Session, col, select

from dstack.server.models import ForgeReport, NotNeeded, Run
from dstack.server.store.outbox import STATUS
from dstack.wire.states import FINAL_STATES


def commits_wrongly_green(session: Session, shas: Collection[str]) -> set[str]:
    """Those of these commits where a status was last written as success and a clean run has been made since, there or
    on the commit that speaks for it, that has not ended: a draft that is ready now, a result that is tried again. Until
    it is told, somebody may merge by it."""
    if not shas:
        return set()
    goes_on = (
        col(Run.is_clean).is_(True),
        col(Run.state).not_in(FINAL_STATES),
        ForgeReport.kind == STATUS,
        col(ForgeReport.digest).startswith("success:"),
    )
    told = col(Run.sha) + ":dstack/" + col(Run.workflow)
    own = (
        select(Run.sha)
        .join(ForgeReport, (col(ForgeReport.repo_id) == Run.repo_id) & (col(ForgeReport.target) == told))
        .where(col(Run.sha).in_(shas), *goes_on)
    )
    told = col(NotNeeded.sha) + ":dstack/" + col(NotNeeded.workflow)
    speaks = (
        (col(Run.repo_id) == NotNeeded.repo_id)
        & (col(Run.sha) == NotNeeded.carried_sha)
        & (col(Run.workflow) == NotNeeded.workflow)
    )
    carried = (
        select(NotNeeded.sha)
        .join(Run, speaks)
        .join(ForgeReport, (col(ForgeReport.repo_id) == NotNeeded.repo_id) & (col(ForgeReport.target) == told))
        .where(col(NotNeeded.sha).in_(shas), NotNeeded.carried_sha != "", col(Run.trusted).is_(True), *goes_on)
    )
    return {*session.exec(own).all(), *session.exec(carried).all()}
