"""What is wrong between the server and its GitHub App, and what to do about it: facts in, findings out."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import urlsplit

from dstack.server.decide.app_manifest import HOOK_PATH, NOWHERE, AppTemplate

MAX_SKEW_S = 30.0  # an App's token is refused when its clock runs ahead of GitHub's by more than a minute
_RANK = {"read": 1, "write": 2, "admin": 3}


class Level(StrEnum):
    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. `mend` says what to do, empty where all is well."""

    check: str
    level: Level
    said: str
    mend: str = ""


@dataclass(frozen=True, slots=True)
class Installed:
    """An installation as the App sees it."""

    account: str
    permissions: Mapping[str, str]
    suspended: bool = False
    repos: int = 0


@dataclass(frozen=True, slots=True)
class AppSeen:
    """What GitHub says of the App. `sent` and `arrived` count the webhooks of the last day, each event once."""

    slug: str
    html_url: str
    permissions: Mapping[str, str]
    events: Sequence[str]
    hook: str
    clock_skew_s: float
    sent: int
    arrived: int
    installations: Sequence[Installed] = field(default=())


@dataclass(frozen=True, slots=True)
class OurSide:
    """What the server knows itself. `parked` are reports that GitHub refused, in words; `unread` the repositories that
    could not be looked at, with the reason."""

    public_url: str
    mode: str
    template: AppTemplate
    parked: Sequence[str] = ()
    failed_deliveries: int = 0
    unread: Mapping[str, str] = field(default_factory=dict)


def examine(app: AppSeen, ours: OurSide) -> list[Finding]:
    """All findings, in the order of the road: key, clock, rights, events, webhooks, installations,
    repositories that have trouble, reports."""
    settings = f"{app.html_url}/permissions" if app.html_url else "the App's settings on GitHub"
    return [
        Finding("key", Level.OK, f"GitHub knows us as {app.slug}"),
        _clock(app.clock_skew_s),
        _permissions(app.permissions, ours.template, settings),
        _events(app.events, ours.template, settings),
        _webhooks(app, ours),
        *_installations(app, ours.template),
        *(_unread(name, why) for name, why in sorted(ours.unread.items())),
        _parked(ours),
    ]


def better_mode(app: AppSeen, ours: OurSide) -> str:
    """How events had best come in: by webhook where GitHub can reach the server, else by asking GitHub for them. What
    arrived says more than an address: an Enterprise server reaches others of its private network."""
    if app.arrived:
        return ours.mode
    if is_private(ours.public_url) or (ours.mode == "webhook" and app.sent >= 3):
        return "poll"
    return ours.mode


def is_private(address: str) -> bool:
    """Whether nobody outside can reach it, as far as its name tells: a local name or a private address."""
    host = (urlsplit(address).hostname or "").lower()
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return "." not in host or host.endswith((".local", ".localhost", ".internal", ".lan", ".invalid", ".test"))


def _clock(skew: float) -> Finding:
    if abs(skew) <= MAX_SKEW_S:
        return Finding("clock", Level.OK, f"within {abs(skew):.0f} s of GitHub's")
    side = "behind" if skew > 0 else "ahead of"
    said = f"this machine's clock is {abs(skew):.0f} s {side} GitHub's"
    return Finding("clock", Level.PROBLEM, said, "Set the clock (NTP): GitHub refuses tokens from the future.")


def _permissions(have: Mapping[str, str], template: AppTemplate, settings: str) -> Finding:
    short = [f"{name}: {level}" for name, level in template.permissions.items() if not _covers(have.get(name), level)]
    more = [name for name in have if name not in template.permissions]
    if short:
        return Finding("permissions", Level.PROBLEM, f"the App lacks {', '.join(short)}", f"Grant them at {settings}.")
    if more:
        return Finding(
            "permissions", Level.WARNING, f"the App has more than it needs: {', '.join(sorted(more))}",
            f"Take them away at {settings}.",
        )  # fmt: skip
    return Finding(
        "permissions", Level.OK, ", ".join(f"{name}: {level}" for name, level in template.permissions.items())
    )


def _covers(have: str | None, wanted: str) -> bool:
    return _RANK.get(have or "", 0) >= _RANK[wanted]


def _events(have: Sequence[str], template: AppTemplate, settings: str) -> Finding:
    missing = [event for event in template.events if event not in have]
    if missing:
        said = f"the App does not listen to {', '.join(missing)}"
        return Finding("events", Level.PROBLEM, said, f"Subscribe to them at {settings}.")
    return Finding("events", Level.OK, ", ".join(template.events))


def _webhooks(app: AppSeen, ours: OurSide) -> Finding:
    wanted = ours.public_url + HOOK_PATH
    if ours.mode == "poll":
        return _polled(app)
    if better_mode(app, ours) == "poll":
        said = f"GitHub cannot reach {wanted}" + (f": none of {app.sent} arrived" if app.sent else "")
        return Finding(
            "webhooks", Level.PROBLEM, said, "`dstack github doctor --fix` lets the server ask GitHub instead."
        )
    if app.hook != wanted:
        said = f"they are sent to {app.hook or 'nowhere'}, and this server listens at {wanted}"
        return Finding(
            "webhooks", Level.PROBLEM, said, f"Set the webhook URL to {wanted} in {app.html_url or 'the App'}."
        )
    if app.arrived < app.sent:
        said = f"{app.arrived} of {app.sent} arrived in the last day; the others were fetched from GitHub's log"
        return Finding(
            "webhooks", Level.WARNING, said, "See Recent Deliveries in the App's settings for GitHub's reason."
        )
    return Finding(
        "webhooks", Level.OK, f"all {app.sent} of the last day arrived" if app.sent else "none were sent yet"
    )


def _polled(app: AppSeen) -> Finding:
    """GitHub keeps a log only of what it tried to send, so somewhere it must try."""
    told = "Re-run, buttons on checks and merge queues, which only GitHub's log of webhooks tells of, go unheard"
    mend = (
        f"Tick Active in {app.html_url or 'the App'}, with any webhook URL ({NOWHERE}): nothing needs to answer there."
    )
    if not app.hook:
        return Finding("webhooks", Level.WARNING, f"the App has no webhook: {told}", mend)
    if not app.sent:
        said = f"GitHub's log has nothing of the last day: if something did happen, {told}"
        return Finding("webhooks", Level.WARNING, said, mend)
    return Finding("webhooks", Level.OK, "not needed: the server asks GitHub every 15 s (mode: poll)")


def _unread(name: str, why: str) -> Finding:
    mend = "It is tried again by itself, at least once an hour; until then its news come by webhook alone."
    return Finding(f"repository {name}", Level.WARNING, f"could not be looked at: {why}", mend)


def _installations(app: AppSeen, template: AppTemplate) -> list[Finding]:
    if not app.installations:
        address = f"{app.html_url}/installations/new" if app.html_url else "GitHub"
        return [Finding("installations", Level.PROBLEM, "the App is installed nowhere", f"Install it: {address}")]
    return [_installation(one, template) for one in app.installations]


def _installation(one: Installed, template: AppTemplate) -> Finding:
    name = f"installation {one.account}"
    if one.suspended:
        return Finding(
            name, Level.PROBLEM, "is suspended", f"{one.account} can unsuspend it under Installed GitHub Apps."
        )
    lacks = [key for key, level in template.permissions.items() if not _covers(one.permissions.get(key), level)]
    if lacks:
        said = f"has not accepted {', '.join(lacks)}"
        return Finding(
            name, Level.PROBLEM, said, f"{one.account} accepts the new permissions under Installed GitHub Apps."
        )
    return Finding(name, Level.OK, f"{one.repos} {'repository' if one.repos == 1 else 'repositories'}")


def _parked(ours: OurSide) -> Finding:
    if ours.parked:
        said = f"GitHub refused {len(ours.parked)}: {'; '.join(ours.parked[:3])}"
        return Finding("reports", Level.WARNING, said, "They are sent again when the run changes, or with --fix.")
    if ours.failed_deliveries:
        said = f"{ours.failed_deliveries} deliveries failed in the last day"
        return Finding("reports", Level.WARNING, said, "`dstack deliveries --state failed` says why.")
    return Finding("reports", Level.OK, "nothing is held back")
