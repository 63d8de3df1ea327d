"""Tags."""

from __future__ import annotations

from collections.abc import Sequence

from sqlmodel import Session, col, select

from dstack.server.models import Tag


def tag_by_name(session: Session, repo_id: int, workflow: str, name: str) -> Tag | None:
    return session.exec(select(Tag).where(Tag.repo_id == repo_id, Tag.workflow == workflow, Tag.name == name)).first()


def list_tags(session: Session, repo_id: int | None = None) -> Sequence[Tag]:
    query = select(Tag).order_by(col(Tag.workflow), col(Tag.name))
    return session.exec(query if repo_id is None else query.where(Tag.repo_id == repo_id)).all()


def tags_of_runs(session: Session, run_ids: Sequence[int]) -> Sequence[Tag]:
    if not run_ids:
        return []
    return session.exec(select(Tag).where(col(Tag.run_id).in_(run_ids)).order_by(col(Tag.name))).all()
