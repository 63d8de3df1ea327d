"""Reads a webhook: which event it is, and the few fields of it that we use; everything else may be as it likes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from dstack.errors import Malformed
from dstack.server.forge_events.events import (
    CheckRunEvent,
    CheckSuiteEvent,
    Event,
    InstallationEvent,
    InstallationRepositories,
    IssueComment,
    MergeGroup,
    Origin,
    Other,
    Ping,
    PullRequestEvent,
    Push,
    RepoRef,
    RepositoryEvent,
)
from dstack.server.forge_events.fields import Fields
from dstack.server.gateways.forge_facts import InstallationFacts, PullFacts

PULL_ACTIONS = frozenset(
    {"opened", "synchronize", "reopened", "ready_for_review", "converted_to_draft", "closed", "edited"}
)
# The actions of each event that something comes of; those of an event without actions are {""}.
_USED: dict[str, frozenset[str]] = {
    "ping": frozenset({""}),
    "push": frozenset({""}),
    "pull_request": PULL_ACTIONS,
    "merge_group": frozenset({"checks_requested", "destroyed"}),
    "issue_comment": frozenset({"created"}),
    "check_run": frozenset({"rerequested", "requested_action"}),
    "check_suite": frozenset({"rerequested"}),
    "installation": frozenset({"created", "deleted", "suspend", "unsuspend", "new_permissions_accepted"}),
    "installation_repositories": frozenset({"added", "removed"}),
    "repository": frozenset({"renamed", "transferred", "deleted", "privatized", "publicized", "edited"}),
}
_LONGEST_NAME = 100


def read_event(event: str, payload: bytes) -> Event:
    """The event of a webhook with this name and body. Raises Malformed, naming what could not be read."""
    return read_data(event, parse_payload(payload))


def parse_payload(payload: bytes) -> dict[str, Any]:
    """The body as a JSON object. Raises Malformed."""
    try:
        data = json.loads(payload)
    except RecursionError:
        raise Malformed("the body is nested too deeply") from None
    except ValueError as error:  # also bytes that are no text, and numbers of thousands of digits
        raise Malformed(f"the body is not JSON: {str(error)[:100]}") from None
    if not isinstance(data, dict):
        raise Malformed("the body is not a JSON object")
    return data


def read_data(event: str, data: dict[str, Any]) -> Event:
    """The same for a body that has been parsed."""
    fields = Fields(data)
    origin = _origin(event, fields)
    return _READERS[event](origin, fields) if origin.action in _USED.get(event, ()) else Other(origin)


def why_unused(event: Event) -> str:
    """Why nothing can come of an event, whatever stands in the store; empty when something may."""
    origin = event.origin
    if origin.event in ("create", "delete"):
        return "the push says it too"
    if origin.event not in _USED:
        return f"nothing here waits for {origin.event}"
    if origin.action not in _USED[origin.event]:
        return f"nothing here waits for {origin.name}"
    if isinstance(event, PullRequestEvent) and origin.action == "edited" and not event.old_base:
        return "only its text was edited"
    return ""


def why_own(event: Event, slug: str) -> str:
    """Why an event that our App (`slug`) caused itself starts nothing; empty for those of others."""
    origin = event.origin
    return "we did this ourselves" if slug and origin.is_bot and origin.sender == f"{slug}[bot]" else ""


def _origin(event: str, fields: Fields) -> Origin:
    if not event or len(event) > _LONGEST_NAME or not event.isascii() or not event.replace("_", "a").isalnum():
        raise Malformed("X-GitHub-Event is not the name of an event")
    action = fields.text("action", "")
    if len(action) > _LONGEST_NAME:
        raise Malformed("action of the event is too long")
    sender = fields.maybe("sender") or Fields({})
    installation, repository = fields.maybe("installation"), fields.maybe("repository")
    return Origin(
        event=event,
        action=action,
        sender=sender.text("login", ""),
        is_bot=sender.text("type", "") == "Bot",
        installation=installation.whole("id") if installation is not None else None,
        repo=_repo(repository) if repository is not None else None,
        app_id=_app(event, fields),
    )


def _app(event: str, fields: Fields) -> int | None:
    """The App that an event speaks of or that caused it, wherever GitHub says so."""
    holder = fields.maybe({"issue_comment": "comment"}.get(event, event)) or Fields({})
    app = holder.maybe("performed_via_github_app") or holder.maybe("app")
    return app.whole("id") if app is not None else None


def _repo(fields: Fields) -> RepoRef:
    return RepoRef(
        forge_id=str(fields.whole("id")),
        full_name=fields.text("full_name"),
        default_branch=fields.text("default_branch", ""),
        is_private=fields.flag("private", default=True),
    )


def _push(origin: Origin, fields: Fields) -> Event:
    after, head = fields.text("after"), fields.maybe("head_commit")
    return Push(
        origin=origin,
        ref=fields.text("ref"),
        before=fields.text("before"),
        after=after,
        commit=head.text("id", after) if head is not None else after,
        forced=fields.flag("forced"),
    )


def _pull_request(origin: Origin, fields: Fields) -> Event:
    pull = fields.table("pull_request")
    head, base = pull.table("head"), pull.table("base")
    head_repo, base_repo = head.maybe("repo"), base.maybe("repo")
    author = pull.maybe("user")
    ours = str(base_repo.whole("id")) if base_repo is not None else (origin.repo.forge_id if origin.repo else "")
    changes = fields.maybe("changes") or Fields({})
    base_before = (changes.maybe("base") or Fields({})).maybe("ref")
    facts = PullFacts(
        number=pull.whole("number"),
        title=pull.text("title", ""),
        author=author.text("login", "") if author is not None else "",
        head_sha=head.text("sha"),
        head_branch=head.text("ref"),
        head_repo=head_repo.text("full_name", "") if head_repo is not None else "",
        # One whose repository is gone was a fork: nobody deletes the repository that still has the pull request.
        is_fork=head_repo is None or str(head_repo.whole("id")) != ours,
        base_branch=base.text("ref"),
        base_sha=base.text("sha"),
        is_draft=pull.flag("draft"),
        is_open=pull.text("state", "open") == "open",
        updated_at=pull.moment("updated_at"),
        pushed_at=head_repo.moment("pushed_at") if head_repo is not None and head_repo.has("pushed_at") else 0,
    )
    return PullRequestEvent(origin, facts, base_before.text("from", "") if base_before is not None else "")


def _merge_group(origin: Origin, fields: Fields) -> Event:
    group = fields.table("merge_group")
    return MergeGroup(
        origin=origin,
        head_sha=group.text("head_sha"),
        head_branch=group.text("head_ref").removeprefix("refs/heads/"),
        base_branch=group.text("base_ref").removeprefix("refs/heads/"),
        base_sha=group.text("base_sha"),
        reason=fields.text("reason", ""),
    )


def _issue_comment(origin: Origin, fields: Fields) -> Event:
    issue, comment = fields.table("issue"), fields.table("comment")
    author = comment.maybe("user") or Fields({})
    return IssueComment(
        origin=origin,
        number=issue.whole("number"),
        is_pull=issue.has("pull_request"),
        is_open=issue.text("state", "open") == "open",
        comment_id=comment.whole("id"),
        author=author.text("login", ""),
        author_is_bot=author.text("type", "") == "Bot",
        body=comment.text("body", ""),
        created_at=comment.moment("created_at"),
    )


def _check_run(origin: Origin, fields: Fields) -> Event:
    check = fields.table("check_run")
    pressed = fields.maybe("requested_action")
    return CheckRunEvent(
        origin=origin,
        head_sha=check.text("head_sha"),
        external_id=check.text("external_id", ""),
        identifier=pressed.text("identifier", "") if pressed is not None else "",
    )


def _check_suite(origin: Origin, fields: Fields) -> Event:
    return CheckSuiteEvent(origin, fields.table("check_suite").text("head_sha"))


def _installation_facts(fields: Fields) -> InstallationFacts:
    found = fields.table("installation")
    account = found.maybe("account") or Fields({})
    granted = found.maybe("permissions") or Fields({})
    return InstallationFacts(
        id=found.whole("id"),
        account=account.text("login", ""),
        permissions={name: level for name, level in granted.values.items() if isinstance(level, str)},
        events=found.words("events"),
        suspended=found.has("suspended_at"),
    )


def _installation(origin: Origin, fields: Fields) -> Event:
    return InstallationEvent(origin, _installation_facts(fields), tuple(map(_repo, fields.tables("repositories"))))


def _installation_repositories(origin: Origin, fields: Fields) -> Event:
    added, removed = (tuple(map(_repo, fields.tables(f"repositories_{word}"))) for word in ("added", "removed"))
    return InstallationRepositories(origin, _installation_facts(fields), added, removed)


_READERS: dict[str, Callable[[Origin, Fields], Event]] = {
    "ping": lambda origin, fields: Ping(origin),
    "push": _push,
    "pull_request": _pull_request,
    "merge_group": _merge_group,
    "issue_comment": _issue_comment,
    "check_run": _check_run,
    "check_suite": _check_suite,
    "installation": _installation,
    "installation_repositories": _installation_repositories,
    "repository": lambda origin, fields: RepositoryEvent(origin),
}
