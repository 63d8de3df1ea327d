"""The App was installed, changed, suspended or removed somewhere, or may see other repositories now."""

from __future__ import annotations

from collections.abc import Iterable

from sqlmodel import Session

from dstack.errors import Invalid
from dstack.server.forge_events import InstallationEvent, InstallationRepositories, Ping, RepoRef
from dstack.server.gateways.forge_facts import InstallationFacts
from dstack.server.handlers.github import settle
from dstack.server.handlers.registry import handles_app_event
from dstack.server.models import Delivery
from dstack.server.models.delivery import DeliveryState
from dstack.server.services.adopt_repo import adopt_repo
from dstack.server.services.record_installation import NOT_COVERED, let_go, record_installation
from dstack.server.services.same_projects import same_projects
from dstack.server.services.settle_delivery import settle_delivery
from dstack.server.store.github import installation_by_id
from dstack.server.wiring import Wiring

_WORDS = {
    "created": "was installed",
    "deleted": "was uninstalled",
    "suspend": "was suspended",
    "unsuspend": "goes on after a suspension",
    "new_permissions_accepted": "was granted new permissions",
}


@handles_app_event(Ping)
def handle_ping(wiring: Wiring, delivery: Delivery, event: Ping) -> None:
    settle(wiring, delivery, DeliveryState.PROCESSED, "webhooks arrive here")


@handles_app_event(InstallationEvent)
def handle_installation(wiring: Wiring, delivery: Delivery, event: InstallationEvent) -> None:
    action, facts = event.origin.action, event.installation
    removed = action == "deleted"
    same = set() if removed or facts.suspended else same_projects(wiring, facts.id, [r.full_name for r in event.repos])

    def unit(session: Session) -> None:
        now = wiring.clock.now()
        record_installation(session, facts, now, removed=removed)
        gone = removed or facts.suspended
        said = [] if gone else _adopt(session, event.repos, facts, now, same)
        reason = "\n".join([f"the App {_WORDS[action]} for {facts.account}", *said])
        settle_delivery(session, delivery.id or 0, DeliveryState.PROCESSED, reason, now)

    wiring.db.write(unit)


@handles_app_event(InstallationRepositories)
def handle_repositories(wiring: Wiring, delivery: Delivery, event: InstallationRepositories) -> None:
    facts = event.installation
    same = same_projects(wiring, facts.id, [ref.full_name for ref in event.added])

    def unit(session: Session) -> None:
        now = wiring.clock.now()
        known = installation_by_id(session, facts.id)
        if known is not None and known.removed:
            why = "the App was uninstalled since"
            settle_delivery(session, delivery.id or 0, DeliveryState.IGNORED, why, now)
            return
        record_installation(session, facts, now)
        said = _adopt(session, event.added, facts, now, same)
        left = let_go(session, {ref.forge_id for ref in event.removed}, facts.id, NOT_COVERED)
        said += [f"{repo.full_name} is left alone from now on" for repo in left]
        settle_delivery(session, delivery.id or 0, DeliveryState.PROCESSED, "\n".join(said), now)

    wiring.db.write(unit)


def _adopt(
    session: Session, refs: Iterable[RepoRef], facts: InstallationFacts, now: float, same: set[str]
) -> list[str]:
    """What is to be said of each; a name that cannot be does not keep the others out."""
    said = []
    for ref in refs:
        try:
            adopted = adopt_repo(
                session,
                forge_id=ref.forge_id,
                full_name=ref.full_name,
                installation_id=facts.id,
                now=now,
                is_private=ref.is_private,
                default_branch=ref.default_branch,
                same=same,
            )
            said += [] if adopted.why == "known" else [adopted.why]
        except Invalid as error:
            said.append(f"{error.message}. {error.hint}".strip())
    return said
