"""Makes a repository known to the server."""

from __future__ import annotations

from sqlmodel import Session

from dstack.git.names import check_repo_name
from dstack.server.models import Repo
from dstack.server.store.repos import repo_by_name


def add_repo(session: Session, full_name: str, now: float) -> Repo:
    """The repo, made if it is new. Raises Invalid for a name that cannot be."""
    owner, _, name = check_repo_name(full_name).partition("/")
    repo = repo_by_name(session, owner, name)
    if repo is None:
        repo = Repo(owner=owner, name=name, created_at=now)
        session.add(repo)
        session.flush()
    return repo
