"""Reads GitHub's JSON into `gateways.forge_facts`: only what we use, and tolerant of all else. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from dstack.errors import ForgeDown
from dstack.server.gateways.forge_facts import (
    AppFacts,
    ForgeComment,
    ForgeRepo,
    InstallationFacts,
    NewApp,
    Permission,
    PullFacts,
    SentDelivery,
)
from dstack.server.gateways.forge_writes import StatusState

Json = Mapping[str, Any]

_PERMISSIONS = {
    "admin": Permission.ADMIN,
    "maintain": Permission.WRITE,
    "write": Permission.WRITE,
    "triage": Permission.READ,
    "read": Permission.READ,
}


def read_new_app(data: Any) -> NewApp:
    return NewApp(
        app_id=need_number(data, "id"),
        slug=text(data, "slug"),
        name=text(data, "name"),
        html_url=text(data, "html_url"),
        client_id=text(data, "client_id"),
        private_key=need_text(data, "pem"),
        webhook_secret=text(data, "webhook_secret"),
    )


def read_app(data: Any, clock_skew_s: float) -> AppFacts:
    return AppFacts(
        slug=text(data, "slug"),
        name=text(data, "name"),
        html_url=text(data, "html_url"),
        owner=text(data, "owner", "login"),
        permissions=_words(get(data, "permissions")),
        events=_names(get(data, "events")),
        clock_skew_s=clock_skew_s,
    )


def read_installation(data: Any) -> InstallationFacts:
    return InstallationFacts(
        id=need_number(data, "id"),
        account=text(data, "account", "login") or text(data, "account", "slug"),  # an enterprise has no login
        permissions=_words(get(data, "permissions")),
        events=_names(get(data, "events")),
        suspended=get(data, "suspended_at") is not None,
    )


def read_repo(data: Any) -> ForgeRepo:
    return ForgeRepo(
        forge_id=str(need_number(data, "id")),
        full_name=need_text(data, "full_name"),
        default_branch=text(data, "default_branch") or "main",
        is_private=get(data, "private") is not False,
    )


def read_pull(data: Any) -> PullFacts:
    """A pull request whose head repository is gone counts as one from a fork."""
    head, base = get(data, "head", "repo", "id"), get(data, "base", "repo", "id")
    return PullFacts(
        number=need_number(data, "number"),
        title=text(data, "title"),
        author=text(data, "user", "login"),
        head_sha=need_text(data, "head", "sha"),
        head_branch=text(data, "head", "ref"),
        head_repo=text(data, "head", "repo", "full_name"),
        is_fork=head is None or head != base,
        base_branch=need_text(data, "base", "ref"),
        base_sha=text(data, "base", "sha"),
        is_draft=get(data, "draft") is True,
        is_open=text(data, "state") == "open",
        updated_at=moment(data, "updated_at"),
        pushed_at=moment(data, "head", "repo", "pushed_at"),
    )


def read_comment(data: Any) -> ForgeComment:
    number = text(data, "issue_url").rpartition("/")[2]
    return ForgeComment(
        id=need_number(data, "id"),
        number=int(number) if number.isdigit() else 0,
        author=text(data, "user", "login"),
        body=text(data, "body"),
        created_at=moment(data, "created_at"),
        is_bot=text(data, "user", "type") == "Bot",  # as its event says it: a person may write through an App
        is_edited=text(data, "updated_at") != text(data, "created_at"),
    )


def read_delivery(data: Any) -> SentDelivery:
    action = text(data, "action")
    event = text(data, "event")
    return SentDelivery(
        id=need_number(data, "id"),
        guid=text(data, "guid"),
        event=f"{event}.{action}" if action else event,
        delivered_at=moment(data, "delivered_at"),
        status_code=number(data, "status_code"),
    )


def read_permission(data: Any) -> Permission:
    """What GitHub says in a word we do not know is NONE."""
    return _PERMISSIONS.get(text(data, "permission"), Permission.NONE)


def read_states(statuses: Any) -> dict[str, StatusState]:
    known = set(StatusState)
    return {text(s, "context"): StatusState(text(s, "state")) for s in items(statuses) if text(s, "state") in known}


def is_ours(data: Any, app_id: int, slug: str) -> bool:
    """Did our App write this comment, issue or check?"""
    through = get(data, "performed_via_github_app", "id") or get(data, "app", "id")
    if through is not None:
        return bool(through == app_id)
    return bool(slug) and text(data, "user", "login") == f"{slug}[bot]"


# Taking values out of JSON of which nothing is sure


def get(data: Any, *names: str) -> Any:
    """The value at a path of names; None where there is none."""
    for name in names:
        if not isinstance(data, Mapping):
            return None
        data = data.get(name)
    return data


def text(data: Any, *names: str) -> str:
    found = get(data, *names)
    return found if isinstance(found, str) else ""


def number(data: Any, *names: str) -> int:
    found = get(data, *names)
    return found if isinstance(found, int) else 0


def items(found: Any) -> list[Any]:
    return found if isinstance(found, list) else []


def moment(data: Any, *names: str) -> float:
    """A time in seconds since the epoch; 0 where there is none."""
    try:
        return datetime.fromisoformat(text(data, *names)).timestamp()
    except ValueError:
        return 0.0


def need_text(data: Any, *names: str) -> str:
    """Raises ForgeDown: an answer without what it always has tells nothing of what was done."""
    return text(data, *names) or _missing(names)


def need_number(data: Any, *names: str) -> int:
    """The same for a number."""
    return number(data, *names) or _missing(names)


def _missing(names: tuple[str, ...]) -> Any:
    raise ForgeDown(f"GitHub's answer has no {'.'.join(names)}", "is DSTACK_GITHUB_API_URL the address of its API?")


def _words(found: Any) -> dict[str, str]:
    return {str(name): str(value) for name, value in found.items()} if isinstance(found, Mapping) else {}


def _names(found: Any) -> tuple[str, ...]:
    return tuple(str(name) for name in items(found))
