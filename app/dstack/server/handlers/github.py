"""A webhook of GitHub: read again from the bytes as they came, and handed to whoever handles its event."""

from __future__ import annotations

from functools import partial

from dstack.errors import ForgeRefused, Invalid, Malformed, NotConnected
from dstack.server.forge_events import Origin, read_event, why_own, why_unused
from dstack.server.gateways.forge_facts import InstallationFacts
from dstack.server.handlers.registry import APP_EVENTS, REPO_EVENTS, handles
from dstack.server.models import Delivery, Repo
from dstack.server.models.delivery import DeliveryState
from dstack.server.services.adopt_repo import adopt_repo
from dstack.server.services.record_installation import record_installation
from dstack.server.services.same_projects import same_projects
from dstack.server.services.settle_delivery import settle_delivery
from dstack.server.store.github import installation_by_id, repo_by_forge_id
from dstack.server.wiring import Wiring


@handles("github")
def handle_github(wiring: Wiring, delivery: Delivery) -> None:
    """What nothing can come of is ignored, with the reason; the rest its own handler settles."""
    try:
        event = read_event(delivery.event.partition(".")[0], delivery.payload or b"")
    except Malformed as error:
        settle(wiring, delivery, DeliveryState.FAILED, error.message)
        return
    if why := why_unused(event) or why_own(event, wiring.forge.slug):
        settle(wiring, delivery, DeliveryState.IGNORED, why)
    elif (of_app := APP_EVENTS.get(type(event))) is not None:
        of_app(wiring, delivery, event)
    elif (of_repo := REPO_EVENTS.get(type(event))) is not None:
        repo, why = find_place(wiring, event.origin)
        if why or repo is None:
            settle(wiring, delivery, DeliveryState.IGNORED, why, repo)
        else:
            of_repo(wiring, delivery, repo, event)
    else:
        settle(wiring, delivery, DeliveryState.IGNORED, f"nothing handles {delivery.event}")


def settle(wiring: Wiring, delivery: Delivery, state: DeliveryState, reason: str, repo: Repo | None = None) -> None:
    """For handlers that write nothing else."""
    repo_id = repo.id if repo is not None else None
    wiring.db.write(lambda s: settle_delivery(s, delivery.id or 0, state, reason, wiring.clock.now(), repo_id=repo_id))


def find_place(wiring: Wiring, origin: Origin) -> tuple[Repo | None, str]:
    """The repo an event is about, and, where our App may not act, why. One that we have not heard of is asked for: the
    App may have been installed before this server was there, or the news of it be still under way."""
    if origin.repo is None:
        return None, "it names no repository"
    repo = _known(wiring, origin)
    # A rename is told to nobody where it was the account that was renamed.
    is_as_known = repo is not None and repo.installation_id is not None and repo.full_name == origin.repo.full_name
    if not is_as_known or _is_new_installation(wiring, origin):
        try:
            repo = _learn(wiring, origin) or repo
        except Invalid as error:
            return None, f"{error.message}. {error.hint}"
    if repo is None:
        return None, f"the App is not installed for {origin.repo.full_name}"
    if repo.installation_id is None:
        return repo, repo.problem or f"the App is not installed for {repo.full_name}"
    installation = wiring.db.read(partial(installation_by_id, installation_id=repo.installation_id))
    if installation is None or installation.problem:
        return repo, installation.problem if installation is not None else "its installation is unknown"
    return repo, ""


def _known(wiring: Wiring, origin: Origin) -> Repo | None:
    assert origin.repo is not None
    return wiring.db.read(partial(repo_by_forge_id, forge_id=origin.repo.forge_id))


def _is_new_installation(wiring: Wiring, origin: Origin) -> bool:
    number = origin.installation
    return number is not None and wiring.db.read(partial(installation_by_id, installation_id=number)) is None


def _learn(wiring: Wiring, origin: Origin) -> Repo | None:
    """Ask the forge for the installation that an event names, and whether it covers the repo. None where it does not.

    Raises ForgeBusy and ForgeDown: then nobody knows yet.
    """
    assert origin.repo is not None
    if origin.installation is None:
        return None
    forge_id, number = origin.repo.forge_id, origin.installation
    try:
        facts = _installation(wiring, number)
        covered = {one.forge_id: one for one in wiring.forge.repos_of(number)} if facts and not facts.suspended else {}
    except (ForgeRefused, NotConnected):
        return None
    if facts is None:
        return None
    now, found = wiring.clock.now(), covered.get(forge_id)
    same = same_projects(wiring, number, [found.full_name] if found is not None else [])
    wiring.db.write(lambda s: record_installation(s, facts, now))
    if found is None:
        return None
    return wiring.db.write(
        lambda s: (
            adopt_repo(
                s,
                forge_id=forge_id,
                full_name=found.full_name,
                installation_id=number,
                now=now,
                is_private=found.is_private,
                default_branch=found.default_branch,
                same=same,
            ).repo
        )
    )


def _installation(wiring: Wiring, number: int) -> InstallationFacts | None:
    return next((one for one in wiring.forge.installations() if one.id == number), None)
