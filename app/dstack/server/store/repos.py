"""Repositories."""

from __future__ import annotations

from collections.abc import Sequence

from sqlmodel import Session, col, select

from dstack.server.models import Repo


def repo_by_name(session: Session, owner: str, name: str) -> Repo | None:
    return session.exec(select(Repo).where(Repo.owner == owner, Repo.name == name)).first()


def repo_by_id(session: Session, repo_id: int) -> Repo:
    repo = session.get(Repo, repo_id)
    assert repo is not None, f"repo {repo_id} is referred to and must exist"
    return repo


def list_repos(session: Session) -> Sequence[Repo]:
    return session.exec(select(Repo).order_by(col(Repo.owner), col(Repo.name))).all()
