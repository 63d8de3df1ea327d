"""A repository of the forge was renamed, transferred, deleted, or shown to more or fewer people."""

from __future__ import annotations

from sqlmodel import Session

from dstack.errors import Invalid
from dstack.server.forge_events import RepositoryEvent
from dstack.server.handlers.registry import handles_app_event
from dstack.server.models import Delivery, Repo
from dstack.server.models.delivery import DeliveryState
from dstack.server.services.adopt_repo import adopt_repo
from dstack.server.services.settle_delivery import settle_delivery
from dstack.server.store.github import repo_by_forge_id
from dstack.server.wiring import Wiring

DELETED = "it was deleted on GitHub"


@handles_app_event(RepositoryEvent)
def handle_repository(wiring: Wiring, delivery: Delivery, event: RepositoryEvent) -> None:
    """By the forge's number: the name is what changes."""

    def unit(session: Session) -> Repo | None:
        now, ref = wiring.clock.now(), event.origin.repo
        repo = repo_by_forge_id(session, ref.forge_id) if ref is not None else None
        if repo is None:
            settle_delivery(session, delivery.id or 0, DeliveryState.IGNORED, "this server does not know it", now)
            return None
        try:
            with session.begin_nested():
                reason = _change(session, repo, event, now)
        except Invalid as error:
            settle_delivery(session, delivery.id or 0, DeliveryState.FAILED, error.message, now, repo_id=repo.id)
            return None
        settle_delivery(session, delivery.id or 0, DeliveryState.PROCESSED, reason, now, repo_id=repo.id)
        return repo

    repo = wiring.db.write(unit)
    if repo is not None and wiring.git.exists(str(repo.id)) and repo.default_branch:
        wiring.git.set_default_branch(str(repo.id), repo.default_branch)


def _change(session: Session, repo: Repo, event: RepositoryEvent, now: float) -> str:
    """What came of it, in words. A transfer to an account without our App is followed by news of the installation."""
    ref, action = event.origin.repo, event.origin.action
    assert ref is not None
    if action == "deleted":
        repo.installation_id, repo.problem = None, DELETED
        session.add(repo)
        return f"{repo.full_name} was deleted; its runs stay"
    installation = event.origin.installation or repo.installation_id
    problem = repo.problem
    adopted = adopt_repo(
        session,
        forge_id=ref.forge_id,
        full_name=ref.full_name,
        installation_id=installation if repo.installation_id is not None else None,
        now=now,
        is_private=ref.is_private if action not in _SHOWN else not _SHOWN[action],
        default_branch=ref.default_branch,
    )
    repo.problem = problem
    return f"{repo.full_name} was {action}" if adopted.why == "known" else adopted.why


_SHOWN = {"publicized": True, "privatized": False}
