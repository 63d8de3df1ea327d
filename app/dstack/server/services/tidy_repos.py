"""Packs repositories that have grown untidy, with every run's commit held first."""

from __future__ import annotations

import logging
from functools import partial

from dstack.errors import DstackError
from dstack.server.store.repos import list_repos
from dstack.server.store.retention import commits_kept
from dstack.server.wiring import Wiring

log = logging.getLogger(__name__)


def tidy_repos(wiring: Wiring) -> int:
    """How many were packed. Git collects what no ref holds: commits of runs are held by hidden refs first. One that
    is damaged does not keep the others from their turn."""
    tidied = 0
    for repo in wiring.db.read(list_repos):
        repo_id = str(repo.id)
        try:
            if wiring.git.exists(repo_id):
                wiring.git.keep_present(repo_id, wiring.db.read(partial(commits_kept, repo_id=repo.id or 0)))
                tidied += wiring.git.tidy(repo_id)
        except (DstackError, OSError) as error:
            log.warning("%s is not tidied: %s", repo.full_name, error, extra={"action": "tidy"})
    return tidied
