"""Which repositories of the forge are the same project as the one of our own remote that bears their name."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from dstack.errors import DstackError
from dstack.server.gateways.forge_facts import Place
from dstack.server.models import Repo
from dstack.server.store.repos import repo_by_name
from dstack.server.wiring import Wiring

log = logging.getLogger(__name__)


def same_projects(wiring: Wiring, installation: int, names: Iterable[str]) -> set[str]:
    """Those of the names under which ours is empty, or has a newest commit of its default branch that the forge's has
    too: who made that one had ours. One of ours that cannot be read is the same as none. Raises ForgeFailed."""
    return {name for name in names if _is_same(wiring, installation, name)}


def _is_same(wiring: Wiring, installation: int, full_name: str) -> bool:
    owner, _, name = full_name.partition("/")
    ours = wiring.db.read(lambda s: repo_by_name(s, owner, name))
    if ours is None or ours.is_mirror:
        return False
    try:
        head = _newest_commit(wiring, ours)
    except (DstackError, OSError) as error:
        log.warning("%s cannot be compared with GitHub's: %s", full_name, error, extra={"action": "github"})
        return False
    return head is None or wiring.forge.has_commit(Place(installation, owner, name), head)


def _newest_commit(wiring: Wiring, repo: Repo) -> str | None:
    """None in one that nothing was pushed to. Without a default branch any other will do."""
    repo_id = str(repo.id)
    if not wiring.git.path(repo_id).exists():
        return None
    heads = wiring.git.heads(repo_id)
    return heads.get(f"refs/heads/{wiring.git.default_branch(repo_id)}") or next(iter(heads.values()), None)
