"""Learns from the forge where the App is installed and which repositories it may see: at start, and when in doubt."""

from __future__ import annotations

import logging
from functools import partial

from sqlmodel import Session

from dstack.errors import ForgeFailed, Invalid
from dstack.server.gateways.forge_facts import ForgeRepo, InstallationFacts
from dstack.server.models import Installation
from dstack.server.services.adopt_repo import adopt_repo
from dstack.server.services.record_installation import NOT_COVERED, let_go, record_installation
from dstack.server.services.same_projects import same_projects
from dstack.server.store.deliveries import newest_about_repos
from dstack.server.store.github import list_installations, mirrored_repos, repos_of_installation
from dstack.server.store.reports import unpark_unsigned
from dstack.server.wiring import Wiring

log = logging.getLogger(__name__)


def sync_installations(wiring: Wiring) -> int:
    """How many repositories the App may act in. Raises ForgeFailed when the forge does not answer; one installation
    that does not keeps the others from nothing."""
    if not wiring.forge.is_connected:
        return 0
    found = wiring.forge.installations()
    now = wiring.clock.now()
    wiring.db.write(lambda s: _record(s, found, now))
    for facts in found:
        if facts.suspended:
            continue
        before = wiring.db.read(newest_about_repos)
        try:
            repos = wiring.forge.repos_of(facts.id)
            same = same_projects(wiring, facts.id, [repo.full_name for repo in repos])
        except ForgeFailed as error:
            log.warning("repositories of %s: %s", facts.account, error.message, extra={"action": "github"})
            continue
        wiring.db.write(partial(_cover, installation=facts.id, repos=repos, now=now, before=before, same=same))
    return len(wiring.db.read(mirrored_repos))


def _record(session: Session, found: list[InstallationFacts], now: float) -> None:
    for facts in found:
        record_installation(session, facts, now)
    known = {facts.id for facts in found}
    for row in list_installations(session):
        if row.id not in known and not row.removed:
            record_installation(session, _as_facts(row), now, removed=True)


def _as_facts(row: Installation) -> InstallationFacts:
    return InstallationFacts(row.id, row.account, row.permissions, tuple(row.events), row.suspended)


def _cover(
    session: Session, installation: int, repos: list[ForgeRepo], now: float, before: int, same: set[str]
) -> None:
    """Unless an event about repositories came in since we asked: that may be the newer news."""
    known = [repo.id or 0 for repo in repos_of_installation(session, installation)]
    unpark_unsigned(session, known, now)  # the answer shows that our key is taken
    if newest_about_repos(session) != before:
        return
    for repo in repos:
        try:
            adopt_repo(
                session,
                forge_id=repo.forge_id,
                full_name=repo.full_name,
                installation_id=installation,
                now=now,
                is_private=repo.is_private,
                default_branch=repo.default_branch,
                same=same,
            )
        except Invalid as error:
            log.warning("%s is left out: %s", repo.full_name, error.message, extra={"action": "github"})
    covered = {repo.forge_id for repo in repos}
    mine = [repo.forge_id for repo in mirrored_repos(session) if repo.installation_id == installation]
    gone = [forge_id for forge_id in mine if forge_id not in covered]
    let_go(session, gone, installation, NOT_COVERED)
