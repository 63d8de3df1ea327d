"""Packs repositories that have grown untidy, with every run's commit held first, and removes those of forks that no run
needs any more."""

from __future__ import annotations

import logging
from functools import partial

from dstack.errors import DstackError
from dstack.server.gateways.forks import forks_of, last_filled
from dstack.server.gateways.kept import keep_present
from dstack.server.models import Repo
from dstack.server.store.github import pull_by_number
from dstack.server.store.repos import list_repos
from dstack.server.store.retention import commits_kept
from dstack.server.wiring import Wiring

log = logging.getLogger(__name__)
_FRESH_S = 24 * 3600.0  # a commit that came in lately may be about to get its runs


def tidy_repos(wiring: Wiring) -> int:
    """How many were packed. Git collects what no ref holds: commits of runs are held by hidden refs first. One that
    is damaged does not keep the others from their turn."""
    tidied = 0
    for repo in wiring.db.read(list_repos):
        repo_id = str(repo.id)
        try:
            for number, fork in forks_of(wiring.git, repo_id).items():
                tidied += _tidy_fork(wiring, repo, number, fork)
            if wiring.git.exists(repo_id):
                keep_present(wiring.git, repo_id, wiring.db.read(partial(commits_kept, repo_id=repo.id or 0)))
                tidied += wiring.git.tidy(repo_id)
        except (DstackError, OSError) as error:
            log.warning("%s is not tidied: %s", repo.full_name, error, extra={"action": "tidy"})
    return tidied


def _tidy_fork(wiring: Wiring, repo: Repo, number: int, fork: str) -> bool:
    kept = wiring.db.read(partial(commits_kept, repo_id=repo.id or 0, objects=fork))
    if kept:
        keep_present(wiring.git, fork, kept)
        return wiring.git.tidy(fork)
    pull = wiring.db.read(partial(pull_by_number, repo_id=repo.id or 0, number=number))
    if (pull is None or not pull.is_open) and last_filled(wiring.git, fork) < wiring.clock.now() - _FRESH_S:
        wiring.git.remove(fork)
    return False
