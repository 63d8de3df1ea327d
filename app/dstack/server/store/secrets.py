"""Secrets of repos, sealed."""

from __future__ import annotations

from collections.abc import Sequence

from sqlmodel import Session, col, select

from dstack.server.models import Secret


def secrets_of_repo(session: Session, repo_id: int) -> Sequence[Secret]:
    return session.exec(select(Secret).where(Secret.repo_id == repo_id).order_by(col(Secret.name))).all()


def secret_by_name(session: Session, repo_id: int, name: str) -> Secret | None:
    return session.get(Secret, (repo_id, name))
