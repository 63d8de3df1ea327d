"""Finds pushes whose delivery was lost between the ref and the row, and files them."""

from __future__ import annotations

import logging

from sqlmodel import Session

from dstack.errors import DstackError
from dstack.server.decide.watching import is_of_merge_queue
from dstack.server.models import Repo
from dstack.server.store.heads import heads_of_repo
from dstack.server.store.repos import list_repos
from dstack.server.transitions.deliveries import receive_delivery
from dstack.server.wiring import Wiring

log = logging.getLogger(__name__)
_NOTHING = "0" * 40


def reconcile_heads(wiring: Wiring) -> int:
    """Compare every ref with where it was last handled; how many differed. One repository that is damaged does not
    keep the others from their turn.

    A push in progress is seen too: the natural key of its runs keeps them from being made twice.
    """
    differed = 0
    for repo in wiring.db.read(list_repos):
        try:
            if wiring.git.exists(str(repo.id)):
                differed += reconcile_repo(wiring, repo)
        except (DstackError, OSError) as error:
            log.warning("%s is not compared: %s", repo.full_name, error, extra={"action": "reconcile"})
    return differed


def reconcile_repo(wiring: Wiring, repo: Repo) -> int:
    """The same of one. What a mirror had when it was first looked at is old: it starts nothing."""
    if repo.is_mirror and not repo.looked_at:
        return 0
    actual = wiring.git.heads(str(repo.id))
    known = wiring.db.read(lambda s: heads_of_repo(s, repo.id or 0))
    moved = [
        {"ref": ref, "old": known.get(ref, _NOTHING), "new": actual.get(ref, _NOTHING)}
        for ref in sorted(actual.keys() | known.keys())
        if actual.get(ref) != known.get(ref) and not (repo.is_mirror and is_of_merge_queue(ref))
    ]
    if moved:
        wiring.db.write(lambda s: _file(s, wiring, repo, moved))
    return len(moved)


def _file(session: Session, wiring: Wiring, repo: Repo, moved: list[dict[str, str]]) -> None:
    receive_delivery(
        session,
        "push",
        f"reconciled:{wiring.clock.new_id()}",
        {"updates": moved},
        repo_id=repo.id,
        sender="dstack",
        now=wiring.clock.now(),
    )
