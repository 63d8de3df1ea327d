"""What stands in a repository of GitHub: addresses to fetch from, pull requests, comments, and who may do what."""

from __future__ import annotations

from datetime import UTC, datetime

from dstack.errors import ForgeRefused
from dstack.server.gateways.forge_facts import ForgeComment, Permission, Place, PullFacts
from dstack.server.gateways.forge_writes import StatusState, StatusWrite
from dstack.server.gateways.github.addresses import repo
from dstack.server.gateways.github.calls import Calls
from dstack.server.gateways.github.reading import read_comment, read_permission, read_pull, read_states

_GRAIN_S = 3600


def permission(calls: Calls, place: Place, login: str) -> Permission:
    """An empty login would ask for the list of all: nobody is what it is."""
    if not login:
        return Permission.NONE
    try:
        return read_permission(
            calls.at(place.installation, "GET", repo(place, "collaborators", login, "permission")).data
        )
    except ForgeRefused as error:
        if error.answer == 404:
            return Permission.NONE
        raise


def pull(calls: Calls, place: Place, number: int) -> PullFacts:
    return read_pull(calls.at(place.installation, "GET", repo(place, "pulls", number)).data)


def open_pulls(calls: Calls, place: Place) -> list[PullFacts]:
    return list(calls.polled(place.installation, repo(place, "pulls"), {"state": "open"}, read_pull))


def comments_since(calls: Calls, place: Place, since: float) -> list[ForgeComment]:
    """GitHub's `since` is about changes; those only edited since are left out. It is asked for by the hour: the same
    question has the same answer, which costs nothing, until somebody writes."""
    asked = {
        "since": datetime.fromtimestamp(since - since % _GRAIN_S, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "sort": "created",
    }
    path = repo(place, "issues", "comments")
    found = calls.polled(place.installation, path, {**asked, "direction": "asc"}, read_comment)
    comments = [comment for comment in found if comment.created_at >= int(since)]
    return sorted(comments, key=lambda comment: (comment.created_at, comment.id))


def has_commit(calls: Calls, place: Place, sha: str) -> bool:
    try:
        calls.at(place.installation, "GET", repo(place, "commits", sha))
    except ForgeRefused as error:
        if error.answer in (404, 409, 422):  # no such repository, an empty one, no such commit
            return False
        raise
    return True


def statuses(calls: Calls, place: Place, sha: str) -> dict[str, StatusState]:
    path = repo(place, "commits", sha, "status")
    return read_states(list(calls.listed(place.installation, path, key="statuses")))


def write_status(calls: Calls, place: Place, status: StatusWrite) -> None:
    body = {
        "state": status.state.value,
        "context": status.context,
        "description": status.text,
        **({"target_url": status.url} if status.url else {}),
    }
    calls.at(place.installation, "POST", repo(place, "statuses", status.sha), body=body)
