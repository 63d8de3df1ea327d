"""Repositories."""

from __future__ import annotations

from collections.abc import Sequence

from sqlmodel import Session, col, select

from dstack.server.models import FormerName, Repo


def repo_by_name(session: Session, owner: str, name: str) -> Repo | None:
    return session.exec(select(Repo).where(Repo.owner == owner, Repo.name == name)).first()


def repo_as_written(session: Session, owner: str, name: str) -> Repo | None:
    """The repo of this name, else the one that was called so last: what others wrote before a rename stays true until
    another repo takes the name, as it does at the forge."""
    former = session.get(FormerName, (owner, name))
    return repo_by_name(session, owner, name) or (session.get(Repo, former.repo_id) if former is not None else None)


def note_former_name(session: Session, repo: Repo) -> None:
    """It is about to get another name."""
    session.merge(FormerName(owner=repo.owner, name=repo.name, repo_id=repo.id or 0))


def repo_by_id(session: Session, repo_id: int) -> Repo:
    repo = session.get(Repo, repo_id)
    assert repo is not None, f"repo {repo_id} is referred to and must exist"
    return repo


def list_repos(session: Session) -> Sequence[Repo]:
    return session.exec(select(Repo).order_by(col(Repo.owner), col(Repo.name))).all()
