"""Comments with commands."""

from __future__ import annotations

from collections.abc import Collection

from sqlmodel import Session, col, func, select

from dstack.server.models import Command, Run


def command_of_comment(session: Session, repo_id: int, comment_id: int) -> Command | None:
    return session.exec(select(Command).where(Command.repo_id == repo_id, Command.comment_id == comment_id)).first()


def count_commands(session: Session, repo_id: int, author: str, since: float, but: int) -> int:
    """Comments of this author with commands that were taken since then, `but` the one with this id."""
    mine = (Command.repo_id == repo_id, Command.author == author, Command.created_at >= since)
    return session.exec(select(func.count()).select_from(Command).where(*mine, Command.comment_id != but)).one()


def runs_by_names(session: Session, names: Collection[str]) -> dict[str, Run]:
    rows = session.exec(select(Run).where(col(Run.name).in_(names))).all() if names else []
    return {row.name: row for row in rows}
