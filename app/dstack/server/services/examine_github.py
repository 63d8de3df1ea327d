"""Asks both sides how the connection to GitHub stands, and mends of it what the server can mend itself."""

from __future__ import annotations

from dataclasses import dataclass

from sqlmodel import Session

from dstack.errors import ForgeFailed
from dstack.server.decide.app_manifest import AppTemplate
from dstack.server.decide.doctor import AppSeen, Finding, Installed, Level, OurSide, better_mode, examine
from dstack.server.gateways.forge_facts import SentDelivery
from dstack.server.models.delivery import DeliveryState
from dstack.server.store.deliveries import count_deliveries
from dstack.server.store.github import list_installations, mirrored_repos, stored_app
from dstack.server.store.reports import parked, unpark
from dstack.server.wiring import Wiring

DAY_S = 86_400.0
_CONNECT = "Connect one: `dstack github connect`, or set DSTACK_GITHUB_APP_ID and its key and secret."


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """`advised` is the mode in which events had best come in."""

    findings: list[Finding]
    mode: str
    advised: str


def events_mode(wiring: Wiring) -> str:
    """How events come in: `webhook`, or `poll`. The setting wins over what was stored."""
    if wiring.settings.github_mode:
        return wiring.settings.github_mode
    app = wiring.db.read(stored_app)
    return app.mode if app is not None else "webhook"


def examine_github(wiring: Wiring, template: AppTemplate) -> Diagnosis:
    """Never raises for what GitHub says or does not say: that is a finding too."""
    mode = events_mode(wiring)
    if not wiring.forge.is_connected:
        return Diagnosis([Finding("key", Level.PROBLEM, "no GitHub App is connected", _CONNECT)], mode, mode)
    try:
        seen = _look(wiring)
    except ForgeFailed as error:
        return Diagnosis([Finding("key", Level.PROBLEM, error.message, error.hint or _CONNECT)], mode, mode)
    ours = wiring.db.read(lambda s: _our_side(s, wiring, mode, template))
    return Diagnosis(examine(seen, ours), mode, better_mode(seen, ours))


def mend_github(wiring: Wiring, diagnosis: Diagnosis) -> list[str]:
    """What was done, in words: the mode that fits, and another try for what GitHub had refused."""
    done = []
    if diagnosis.advised != diagnosis.mode:
        done.append(_change_mode(wiring, diagnosis.advised))
    now = wiring.clock.now()
    again = wiring.db.write(lambda s: unpark(s, [repo.id or 0 for repo in mirrored_repos(s)], now))
    if again:
        done.append(f"{again} reports that GitHub had refused are sent again")
    return done


def _change_mode(wiring: Wiring, mode: str) -> str:
    def unit(session: Session) -> bool:
        app = stored_app(session)
        if app is None or wiring.settings.github_mode:
            return False
        app.mode = mode
        session.add(app)
        return True

    if wiring.db.write(unit):
        return f"events come in by {mode} from now on"
    return f"set DSTACK_GITHUB_MODE={mode} and start the server again: the App comes from the settings"


def _look(wiring: Wiring) -> AppSeen:
    facts = wiring.forge.app()
    log = list(wiring.forge.sent_deliveries(wiring.clock.now() - DAY_S))
    found = wiring.forge.installations()
    covered = wiring.db.read(mirrored_repos)
    return AppSeen(
        slug=facts.slug,
        html_url=facts.html_url,
        permissions=facts.permissions,
        events=facts.events,
        hook=wiring.forge.hook_address(),
        clock_skew_s=facts.clock_skew_s,
        sent=len({sent.guid for sent in log}),
        arrived=_arrived(log),
        installations=[
            Installed(
                one.account,
                one.permissions,
                one.suspended,
                sum(repo.installation_id == one.id for repo in covered),
            )
            for one in found
        ],
    )


def _arrived(log: list[SentDelivery]) -> int:
    """Events of which any attempt arrived."""
    return len({sent.guid for sent in log if sent.arrived})


def _our_side(session: Session, wiring: Wiring, mode: str, template: AppTemplate) -> OurSide:
    mirrored = mirrored_repos(session)
    names = {repo.id: repo.full_name for repo in mirrored}
    return OurSide(
        public_url=wiring.settings.public_url,
        mode=mode,
        template=template,
        parked=[f"{r.kind} of {names.get(r.repo_id, 'a repo')} {r.target[:60]}: {r.problem}" for r in parked(session)],
        failed_deliveries=count_deliveries(session, DeliveryState.FAILED, wiring.clock.now() - DAY_S),
        unread={repo.full_name: repo.unread for repo in mirrored if repo.unread},
    )


def connected_to(session: Session) -> list[str]:
    """The accounts the App is installed at."""
    return [row.account for row in list_installations(session) if not row.removed]
