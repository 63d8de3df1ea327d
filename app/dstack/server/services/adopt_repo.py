"""Makes a repository of GitHub known here: as a new one, or by taking up one that our own remote has under its name."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlmodel import Session

from dstack.errors import Invalid
from dstack.git.names import check_repo_name
from dstack.server.models import Repo
from dstack.server.models.repo import GITHUB
from dstack.server.store.github import repo_by_forge_id
from dstack.server.store.outbox import hasten_marks
from dstack.server.store.reports import unpark
from dstack.server.store.repos import note_former_name, repo_by_name


@dataclass(frozen=True, slots=True)
class Adopted:
    """`why` tells what happened to it, for people."""

    repo: Repo
    why: str


def adopt_repo(
    session: Session,
    *,
    forge_id: str,
    full_name: str,
    installation_id: int | None,
    now: float,
    is_private: bool = True,
    default_branch: str = "",
    same: Collection[str] = (),
) -> Adopted:
    """The repo with the forge's number `forge_id`, named and reached as it is now. One of our own remote with the same
    owner and name becomes it, with its runs, tags and heads, where `same` has that name: the same project seen through
    both doors is one repo. Raises Invalid for a name that cannot be, and for one that belongs to another project here:
    whoever may make a repository at the forge would else get at what hangs on ours."""
    owner, _, name = check_repo_name(full_name).partition("/")
    repo, why = repo_by_forge_id(session, forge_id), "known"
    if repo is None:
        namesake = repo_by_name(session, owner, name)
        if namesake is not None and not namesake.is_mirror and full_name in same:
            repo, why = namesake, f"{full_name} of this server's own remote lives on GitHub from now on"
        else:
            repo, why = Repo(owner=owner, name=name, created_at=now), f"{full_name} is new here"
    elif repo.full_name != full_name:
        why = f"{repo.full_name} is called {full_name} now"
        note_former_name(session, repo)
    _make_room(session, repo, owner, name)
    is_reached_anew = repo.installation_id != installation_id
    repo.forge, repo.forge_id, repo.owner, repo.name = GITHUB, forge_id, owner, name
    repo.installation_id, repo.is_private, repo.problem = installation_id, is_private, ""
    repo.default_branch = default_branch or repo.default_branch
    session.add(repo)
    session.flush()
    if is_reached_anew:
        unpark(session, [repo.id or 0], now)
        hasten_marks(session, repo.id or 0)  # what is to be told there had nobody to tell it
    return Adopted(repo, why)


def _make_room(session: Session, repo: Repo, owner: str, name: str) -> None:
    """Another repository that still bears this name lost it at the forge: we only have not heard its new one yet."""
    other = repo_by_name(session, owner, name)
    if other is None or other is repo:
        return
    if not other.is_mirror:
        raise Invalid(
            f"{owner}/{name} is a repository of this server, and GitHub's of that name does not have its newest commit",
            "Push that to GitHub, or rename one of them.",
        )
    names = (f"{name[:70]}-{other.forge_id or other.id}{suffix}" for suffix in ("", *(f"-{n}" for n in range(2, 99))))
    other.name = next(free for free in names if repo_by_name(session, owner, free) is None)
    other.problem = f"another repository is called {owner}/{name} now"
    session.add(other)
    session.flush()
