"""Packs repositories that have grown untidy, with every run's commit held first."""

from __future__ import annotations

from functools import partial

from dstack.server.store.repos import list_repos
from dstack.server.store.retention import commits_kept
from dstack.server.wiring import Wiring


def tidy_repos(wiring: Wiring) -> int:
    """How many were packed. Git collects what no ref holds: commits of runs are held by hidden refs first."""
    tidied = 0
    for repo in wiring.db.read(list_repos):
        repo_id = str(repo.id)
        if wiring.git.exists(repo_id):
            wiring.git.keep_all(repo_id, wiring.db.read(partial(commits_kept, repo_id=repo.id or 0)))
            tidied += wiring.git.tidy(repo_id)
    return tidied
