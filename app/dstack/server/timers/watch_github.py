"""Asks GitHub what happened, so that an event that was lost costs time and never a run; where GitHub cannot reach the
server, this is how all events come in.

The delivery log has what GitHub tried to send; heads, pull requests and comments show also what it never sent.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping
from functools import partial

from sqlmodel import Session

from dstack.errors import DstackError, ForgeBusy, ForgeDown, ForgeFailed, ForgeRefused, NotConnected, Unavailable
from dstack.server.decide.resting import FIRST_S
from dstack.server.decide.watching import (
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
from dstack.server.services.record_pull import note_handled, pull_or_gone, record_pull
from dstack.server.store.deliveries import lanes_waiting
from dstack.server.store.github import mirrored_repos, pulls_of_repo
from dstack.server.store.heads import heads_of_repo, note_head
from dstack.server.store.reports import mark_pending_again
from dstack.server.store.repos import repo_by_id
from dstack.server.timers.rests import Rests
from dstack.server.timers.sync_installations import sync_installations
from dstack.server.wiring import Wiring, place_of

log = logging.getLogger(__name__)
EVERY_S = 5.0
_SYNC_AGAIN_S = 60.0
_ELSEWHERE = (301, 404, 422)  # it may have another name by now, or be gone, or not be covered any more
_SAID_AFTER = 2  # failures in a row: one alone is mended by the next look, most often
_LONGEST_WHY = 500
_FORGE, _APP = "the forge", "the App"


class GithubWatch:
    """Remembers when it last looked, and whom it leaves alone for now. Times are of the server's clock."""

    def __init__(self) -> None:
        self._log_at = self._sync_at = 0.0
        self._rests = Rests()

    def look(self, wiring: Wiring) -> None:
        """One pass: only what is due."""
        now = wiring.clock.now()
        if not wiring.forge.is_connected or self._rests.is_resting(_FORGE, now):
            return
        mode = events_mode(wiring)
        try:
            self._ask_as_app(wiring, mode, now)
        except ForgeFailed as error:
            self._rests.fail(_FORGE, now, will_pass=True)
            log.warning("GitHub is asked again later: %s", error.message, extra={"action": "github"})
            return
        self._look_at_repos(wiring, mode, now)

    def _ask_as_app(self, wiring: Wiring, mode: str, now: float) -> None:
        """The App has a limit of its own: repositories are looked at also while that is used up."""
        if self._rests.is_resting(_APP, now):
            return
        try:
            if now - self._sync_at >= SYNC_S:
                sync_installations(wiring)
                wiring.db.write(lambda s: mark_pending_again(s, now))
                self._sync_at = now
            if now - self._log_at >= (POLL_S if mode == "poll" else RECONCILE_S):
                self._read_log(wiring, mode, now)
        except ForgeBusy as error:
            self._rest(_APP, error, now)

    def _read_log(self, wiring: Wiring, mode: str, now: float) -> None:
        is_first = not self._log_at
        fetch_deliveries(wiring, at_once=mode == "poll")
        # What GitHub was sending while no server answered is too young to be called lost: soon it is not.
        self._log_at = now - RECONCILE_S + STILL_COMING_S + EVERY_S if is_first else now

    def _look_at_repos(self, wiring: Wiring, mode: str, now: float) -> None:
        repos = wiring.db.read(mirrored_repos)
        busy = wiring.db.read(lanes_waiting)  # what is on its way through the inbox would be found again
        every = look_every(mode, len(repos))
        for repo in repos:
            is_due = now - repo.looked_at >= every and repo.id not in busy
            if is_due and not any(self._rests.is_resting(who, now) for who in (repo.installation_id, _key(repo))):
                self._look_at(wiring, repo, now)

    def _look_at(self, wiring: Wiring, repo: Repo, now: float) -> None:
        """One repository that cannot be read, and one installation whose limit is used up, keep no other from its
        turn."""
        try:
            look_at_repo(wiring, repo, now)
        except ForgeBusy as error:
            self._rest(repo.installation_id, error, now)
        except (DstackError, OSError) as error:
            self._note_failure(wiring, repo, error, now)
        else:
            self._rests.recover(_key(repo))

    def _rest(self, who: Hashable, error: ForgeBusy, now: float) -> None:
        self._rests.rest(who, now + max(FIRST_S, error.retry_after))
        log.warning("GitHub is asked again later: %s", error.message, extra={"action": "github"})

    def _note_failure(self, wiring: Wiring, repo: Repo, error: DstackError | OSError, now: float) -> None:
        will_pass = isinstance(error, (ForgeDown, Unavailable))
        failures = self._rests.fail(_key(repo), now, will_pass=will_pass)
        if _may_be_elsewhere(error) and now - self._sync_at >= _SYNC_AGAIN_S:
            self._sync_at = 0.0
        if failures >= _SAID_AFTER:
            why = str(error)[:_LONGEST_WHY]
            wiring.db.write(partial(_note_unread, repo_id=repo.id or 0, why=why))
        log.warning("%s is not looked at: %s", repo.full_name, error, extra={"action": "github"})


def _may_be_elsewhere(error: DstackError | OSError) -> bool:
    return isinstance(error, NotConnected) or (isinstance(error, ForgeRefused) and error.answer in _ELSEWHERE)


def _key(repo: Repo) -> tuple[int | None, str]:
    """With its name: under another one it is tried at once."""
    return repo.id, repo.full_name


def _note_unread(session: Session, repo_id: int, why: str) -> None:
    row = repo_by_id(session, repo_id)
    row.unread = why
    session.add(row)


def look_at_repo(wiring: Wiring, repo: Repo, now: float) -> None:
    """Heads, pull requests and comments against what is known. What stands there at the very first look is old."""
    place, repo_id = place_of(repo), repo.id or 0
    heads = mirror_heads(wiring, repo)
    found = wiring.forge.open_pulls(place)
    if not repo.looked_at:
        wiring.db.write(lambda s: _take_as_old(s, repo_id, heads, found, now))
        return
    reconcile_repo(wiring, repo)
    pulls = {pull.number: pull for pull in wiring.db.read(partial(pulls_of_repo, repo_id=repo_id))}
    news = pull_news(found, {number: KnownPull(**pull.handled) for number, pull in pulls.items() if pull.handled})
    for number in closed_pulls(found, [n for n, pull in pulls.items() if pull.is_open or pull.handled.get("is_open")]):
        now_there = pull_or_gone(wiring.forge, place, pulls[number])
        if not now_there.is_open:
            news.append(("closed", now_there))
    since = max(repo.looked_at - OVERLAP_S, repo.created_at)  # what is older than that the repo is known here is old
    comments = comments_to_read(wiring.forge.comments_since(place, since))

    def unit(session: Session) -> None:
        file_found_pulls(session, repo, news, now)
        file_found_comments(session, repo, comments, now)
        row = repo_by_id(session, repo_id)
        row.looked_at, row.unread = now, ""
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
        note_handled(session, repo_id, pull)
    row.looked_at, row.unread = now, ""
    session.add(row)
