"""Asks GitHub what happened, so that an event that was lost costs time and never a run; where GitHub cannot reach the
server, this is how all events come in.

The delivery log has what GitHub tried to send; heads, pull requests and comments show also what it never sent.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from sqlmodel import Session

from dstack.errors import ForgeBusy, ForgeFailed, GitFailed
from dstack.server.decide.watching import (
    KEPT_S,
    OVERLAP_S,
    POLL_S,
    RECONCILE_S,
    SYNC_S,
    KnownPull,
    closed_pulls,
    comments_to_read,
    look_every,
    pull_news,
)
from dstack.server.gateways.forge_facts import PullFacts
from dstack.server.models import Repo
from dstack.server.services.examine_github import events_mode
from dstack.server.services.fetch_deliveries import STILL_COMING_S, fetch_deliveries
from dstack.server.services.file_found import file_found_comments, file_found_pulls
from dstack.server.services.mirror_commit import mirror_heads
from dstack.server.services.reconcile_heads import reconcile_repo
from dstack.server.services.record_pull import record_pull
from dstack.server.store.deliveries import lanes_waiting
from dstack.server.store.github import mirrored_repos, pulls_of_repo
from dstack.server.store.heads import heads_of_repo, note_head
from dstack.server.store.reports import mark_pending_again
from dstack.server.store.repos import repo_by_id
from dstack.server.timers.sync_installations import sync_installations
from dstack.server.wiring import Wiring, place_of

log = logging.getLogger(__name__)
EVERY_S = 5.0
_REST_S = 60.0  # after GitHub did not answer


class GithubWatch:
    """Remembers when it last looked. Times are of the server's clock."""

    def __init__(self) -> None:
        self._log_at = self._sync_at = self._rest_until = 0.0

    def look(self, wiring: Wiring) -> None:
        """One pass: only what is due."""
        now = wiring.clock.now()
        if not wiring.forge.is_connected or now < self._rest_until:
            return
        mode = events_mode(wiring)
        try:
            self._look(wiring, mode, now)
        except ForgeFailed as error:
            self._rest_until = now + max(_REST_S, error.retry_after if isinstance(error, ForgeBusy) else 0)
            log.warning("GitHub is asked again later: %s", error.message, extra={"action": "github"})

    def _look(self, wiring: Wiring, mode: str, now: float) -> None:
        if now - self._sync_at >= SYNC_S:
            sync_installations(wiring)
            wiring.db.write(lambda s: mark_pending_again(s, now))
            self._sync_at = now
        if now - self._log_at >= (POLL_S if mode == "poll" else RECONCILE_S):
            is_first = not self._log_at
            since = now - KEPT_S if is_first else self._log_at - OVERLAP_S
            fetch_deliveries(wiring, since, at_once=mode == "poll")
            # What GitHub was sending while no server answered is too young to be called lost: soon it is not.
            self._log_at = now - RECONCILE_S + STILL_COMING_S + EVERY_S if is_first else now
        repos = wiring.db.read(mirrored_repos)
        busy = wiring.db.read(lanes_waiting)  # what is on its way through the inbox would be found again
        every = look_every(mode, len(repos))
        for repo in repos:
            if now - repo.looked_at >= every and repo.id not in busy:
                self._look_at(wiring, repo, now)

    def _look_at(self, wiring: Wiring, repo: Repo, now: float) -> None:
        """One repository that cannot be read keeps no other from its turn."""
        try:
            look_at_repo(wiring, repo, now)
        except ForgeBusy:
            raise
        except (ForgeFailed, GitFailed) as error:
            log.warning("%s is not looked at: %s", repo.full_name, error.message, extra={"action": "github"})


def look_at_repo(wiring: Wiring, repo: Repo, now: float) -> None:
    """Heads, pull requests and comments against what is known. What stands there at the very first look is old."""
    place, repo_id = place_of(repo), repo.id or 0
    heads = mirror_heads(wiring, repo)
    found = wiring.forge.open_pulls(place)
    if not repo.looked_at:
        wiring.db.write(lambda s: _take_as_old(s, repo_id, heads, found, now))
        return
    reconcile_repo(wiring, repo)
    known = wiring.db.read(lambda s: _known_pulls(s, repo_id))
    news = pull_news(found, known)
    for number in closed_pulls(found, known):
        pull = wiring.forge.pull(place, number)
        if not pull.is_open:
            news.append(("closed", pull))
    comments = comments_to_read(wiring.forge.comments_since(place, repo.looked_at - OVERLAP_S))

    def unit(session: Session) -> None:
        file_found_pulls(session, repo, news, now)
        file_found_comments(session, repo, comments, now)
        row = repo_by_id(session, repo_id)
        row.looked_at = now
        session.add(row)

    wiring.db.write(unit)


def _take_as_old(session: Session, repo_id: int, heads: Mapping[str, str], found: list[PullFacts], now: float) -> None:
    row = repo_by_id(session, repo_id)
    if row.looked_at:
        return
    known = heads_of_repo(session, repo_id)
    for ref, sha in heads.items():
        if ref not in known:
            note_head(session, repo_id, ref, sha)
    for pull in found:
        record_pull(session, repo_id, pull, now)
    row.looked_at = now
    session.add(row)


def _known_pulls(session: Session, repo_id: int) -> dict[int, KnownPull]:
    return {
        pull.number: KnownPull(pull.head_sha, pull.base_branch, pull.is_open, pull.is_draft)
        for pull in pulls_of_repo(session, repo_id)
    }
