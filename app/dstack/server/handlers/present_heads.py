"""Where a branch stands when the news of a push is handled: they may come late, or tell of a head of before."""

from __future__ import annotations

from dataclasses import dataclass

from dstack.errors import NotFound
from dstack.git.names import is_zero
from dstack.server.decide.superseding import is_late
from dstack.server.models import Repo
from dstack.server.services.mirror_commit import mirror_branch
from dstack.server.store.heads import head_of
from dstack.server.store.runs import open_pushed_in_turn
from dstack.server.wiring import Wiring

BRANCH = "refs/heads/"


@dataclass(frozen=True, slots=True)
class Standing:
    """`head` is where the branch stands, and `is_late` says that the push is not what led there. `goes_on`: the push
    leads on from the last one that was handled. `is_behind`: it is late, and the head builds on it. `left`: commits
    that the branch has left behind for good, with runs that wait for their turn."""

    head: str
    is_late: bool = False
    goes_on: bool = True
    is_behind: bool = False
    left: frozenset[str] = frozenset()


def find_standing(wiring: Wiring, repo: Repo, ref: str, old: str, new: str) -> Standing:
    """The commit `new` is here already. Raises ForgeBusy and ForgeDown where the forge must be asked and cannot be."""
    if not ref.startswith(BRANCH) or is_zero(new):
        return Standing(new)
    known = wiring.db.read(lambda s: head_of(s, repo.id or 0, ref))
    if not repo.is_mirror and known in ("", old):
        head: str | None = new  # our own remote tells in order; what was pushed since is told next
    else:
        head = _head(wiring, repo, ref, new)
    if head is not None and is_late(new, head):
        goes_on = not known or _leads_to(wiring, repo, known, new)
        return Standing(head, True, goes_on, is_behind=_leads_to(wiring, repo, new, head))
    runs = wiring.db.read(lambda s: open_pushed_in_turn(s, repo.id or 0, ref))
    elsewhere = {run.sha for run in runs if run.sha != new}
    return Standing(new, left=frozenset(sha for sha in elsewhere if not _leads_to(wiring, repo, sha, new)))


def _head(wiring: Wiring, repo: Repo, ref: str, new: str) -> str | None:
    """The forge is asked only where what is here says otherwise than the news."""
    here = _resolved(wiring, repo, ref)
    if here == new or not repo.is_mirror:
        return here
    mirror_branch(wiring, repo, ref.removeprefix(BRANCH))
    return _resolved(wiring, repo, ref)


def _resolved(wiring: Wiring, repo: Repo, ref: str) -> str | None:
    try:
        return wiring.git.resolve(str(repo.id), ref)
    except NotFound:
        return None


def _leads_to(wiring: Wiring, repo: Repo, before: str, after: str) -> bool:
    return wiring.git.merge_base(str(repo.id), before, after) == before
