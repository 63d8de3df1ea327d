"""Remembers where the App is installed, and what that means for the repositories there."""

from __future__ import annotations

from collections.abc import Collection

from sqlmodel import Session

from dstack.server.gateways.forge_facts import InstallationFacts
from dstack.server.models import Installation, Repo
from dstack.server.store.github import installation_by_id, repos_of_installation
from dstack.server.store.reports import unpark

UNINSTALLED = "the App was uninstalled"
SUSPENDED = "the App's installation is suspended"
NOT_COVERED = "the App may not see it any more"


def record_installation(
    session: Session, facts: InstallationFacts, now: float, *, removed: bool = False
) -> Installation:
    """The installation as it is now. One that is gone, or suspended, says so on its repositories."""
    row = installation_by_id(session, facts.id) or Installation(id=facts.id, account=facts.account, updated_at=now)
    could = (row.permissions, row.problem)
    row.account = facts.account or row.account
    row.permissions, row.events = facts.permissions, list(facts.events)
    row.suspended, row.removed, row.updated_at = facts.suspended, removed, now
    row.problem = UNINSTALLED if removed else SUSPENDED if facts.suspended else ""
    session.add(row)
    covered = repos_of_installation(session, facts.id)
    if not row.problem and could != (row.permissions, row.problem):
        unpark(session, [repo.id or 0 for repo in covered], now)  # what was refused may be taken now
    for repo in covered:
        repo.problem = row.problem
        if removed:
            repo.installation_id = None
        session.add(repo)
    session.flush()
    return row


def let_go(session: Session, forge_ids: Collection[str], installation_id: int, why: str) -> list[Repo]:
    """Those of the repositories that belonged to this installation; the App may do nothing there any more."""
    found = [repo for repo in repos_of_installation(session, installation_id) if repo.forge_id in forge_ids]
    for repo in found:
        repo.installation_id, repo.problem = None, why
        session.add(repo)
    return found
