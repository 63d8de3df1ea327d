"""Comments, reactions and issues of GitHub: written, changed, found again by a marker in their text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dstack.errors import ForgeRefused
from dstack.server.gateways.forge_facts import Place
from dstack.server.gateways.forge_writes import IssueWrite
from dstack.server.gateways.github.addresses import repo
from dstack.server.gateways.github.calls import Calls
from dstack.server.gateways.github.reading import get, is_ours, need_number, text

_SURELY_KEPT = 60_000  # bytes of a text; over a limit of its own GitHub answers 200 and keeps the old one


def create_comment(calls: Calls, place: Place, number: int, body: str) -> str:
    path = repo(place, "issues", number, "comments")
    return str(need_number(calls.at(place.installation, "POST", path, body={"body": body}).data, "id"))


def update_comment(calls: Calls, place: Place, comment_id: str, body: str) -> None:
    path = repo(place, "issues", "comments", comment_id)
    _check_kept(calls.at(place.installation, "PATCH", path, body={"body": body}).data, body)


def find_comment(calls: Calls, place: Place, number: int, marker: str, slug: str) -> str | None:
    found = calls.listed(place.installation, repo(place, "issues", number, "comments"))
    ours = _marked(found, marker, calls.app_id, slug)
    return None if ours is None else str(need_number(ours, "id"))


def react(calls: Calls, place: Place, comment_id: int, reaction: str) -> None:
    path = repo(place, "issues", "comments", comment_id, "reactions")
    calls.at(place.installation, "POST", path, body={"content": reaction})


def create_issue(calls: Calls, place: Place, issue: IssueWrite) -> str:
    body = {"title": issue.title, "body": issue.body}
    return str(need_number(calls.at(place.installation, "POST", repo(place, "issues"), body=body).data, "number"))


def update_issue(calls: Calls, place: Place, number: str, issue: IssueWrite) -> None:
    body = {"title": issue.title, "body": issue.body, "state": "open" if issue.is_open else "closed"}
    _check_kept(calls.at(place.installation, "PATCH", repo(place, "issues", number), body=body).data, issue.body)


def find_issue(calls: Calls, place: Place, marker: str, slug: str) -> str | None:
    asked = {"state": "open", **({"creator": f"{slug}[bot]"} if slug else {})}
    found = calls.listed(place.installation, repo(place, "issues"), asked)
    ours = _marked((one for one in found if get(one, "pull_request") is None), marker, calls.app_id, slug)
    return None if ours is None else str(need_number(ours, "number"))


def _marked(found: Iterable[Any], marker: str, app_id: int, slug: str) -> Any | None:
    """The first of ours with the marker: anybody may write one into a comment of theirs."""
    return next((one for one in found if marker in text(one, "body") and is_ours(one, app_id, slug)), None)


def _check_kept(data: Any, body: str) -> None:
    """Raises ForgeRefused, as for a text that is refused aloud."""
    kept = text(data, "body")
    is_long = len(body.encode()) > _SURELY_KEPT
    if is_long and kept and kept.replace("\r\n", "\n").strip() != body.replace("\r\n", "\n").strip():
        raise ForgeRefused("GitHub kept the old text: the new one is too long", "shorten it", answer=422)
