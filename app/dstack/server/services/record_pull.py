"""Remembers a pull request as it was last heard of, in whatever order the news comes, and how it was last handled."""

from __future__ import annotations

from sqlmodel import Session

from dstack.errors import ForgeRefused
from dstack.server.decide.head_time import head_since
from dstack.server.gateways.forge import Forge
from dstack.server.gateways.forge_facts import Place, PullFacts
from dstack.server.models import PullRequest
from dstack.server.store.github import pull_by_number
from dstack.server.store.outbox import COMMENT, STATUS, mark_commit_outdated, mark_outdated

_GONE = (404, 410)
_HANDLED = ("head_sha", "base_branch", "is_open", "is_draft")
_KEPT = ("title", "author", "head_branch", "head_repo", "is_fork", "base_branch", "base_sha", "is_draft", "is_open")


def pull_or_gone(forge: Forge, place: Place, known: PullRequest) -> PullFacts:
    """As it is at the forge now. One that is gone there without a trace (with the account of a spammer) is closed.
    Raises ForgeFailed."""
    try:
        return forge.pull(place, known.number)
    except ForgeRefused as error:
        if error.answer not in _GONE:
            raise
    facts = {name: getattr(known, name) for name in (*_KEPT, "number", "head_sha", "updated_at")}
    return PullFacts(**{**facts, "is_open": False})


def record_pull(
    session: Session, repo_id: int, facts: PullFacts, now: float, told: PullFacts | None = None
) -> PullRequest:
    """The pull request; news older than what is known changes nothing. `told` is what the forge was asked about."""
    pull = pull_by_number(session, repo_id, facts.number)
    if pull is not None and facts.updated_at < pull.updated_at:
        return pull
    if pull is None:
        pull = PullRequest(
            repo_id=repo_id, number=facts.number, head_sha="", base_branch=facts.base_branch, head_at=0, updated_at=0
        )
    shown = pull.head_sha, pull.base_branch, pull.is_open
    # Times are the forge's own, as a comment's is: by our clock, which may be behind, a push would be older than it is.
    if pull.head_sha != facts.head_sha:
        pull.head_moved = bool(pull.head_sha)
        pull.head_sha, pull.head_at = facts.head_sha, head_since(facts, pull.updated_at, told)
    if pull.base_branch != facts.base_branch:
        pull.base_at = facts.updated_at
    for name in _KEPT:
        setattr(pull, name, getattr(facts, name))
    pull.updated_at = facts.updated_at
    session.add(pull)
    session.flush()
    if shown != (pull.head_sha, pull.base_branch, pull.is_open):
        mark_outdated(session, COMMENT, f"{repo_id}:{pull.number}", now)
        mark_commit_outdated(session, repo_id, pull.head_sha, now)  # others speak there now
        if shown[0] not in ("", pull.head_sha):  # and there, where nobody looks at how the checks are named any more
            mark_outdated(session, STATUS, f"{repo_id}:{shown[0]}", now)
    return pull


def note_handled(session: Session, repo_id: int, facts: PullFacts) -> None:
    """All was done that was to come of it as it stands in `facts`. Where it has another head or goes elsewhere by now,
    that is still to be handled."""
    pull = pull_by_number(session, repo_id, facts.number)
    if pull is not None and (pull.head_sha, pull.base_branch) == (facts.head_sha, facts.base_branch):
        pull.handled = {name: getattr(facts, name) for name in _HANDLED}
        session.add(pull)


def note_changed(session: Session, repo_id: int, number: int, **changed: bool) -> None:
    """It was closed, or is a draft again, and that was handled; its head and base are as they were."""
    pull = pull_by_number(session, repo_id, number)
    if pull is not None and pull.handled:
        pull.handled = {**pull.handled, **changed}
        session.add(pull)
