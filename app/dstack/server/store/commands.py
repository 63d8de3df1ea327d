"""Comments with commands."""

from __future__ import annotations

from collections.abc import Collection

from sqlmodel import Session, col, select

from dstack.server.models import Command, Run


def command_of_comment(session: Session, repo_id: int, comment_id: int) -> Command | None:
    return session.exec(select(Command).where(Command.repo_id == repo_id, Command.comment_id == comment_id)).first()


def runs_by_names(session: Session, names: Collection[str]) -> dict[str, Run]:
    rows = session.exec(select(Run).where(col(Run.name).in_(names))).all() if names else []
    return {row.name: row for row in rows}
