"""Comments with commands, and the runs of a pull request that they are about."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlmodel import Session, col, select

from dstack.server.models import Command, Run
from dstack.wire.states import FINAL_STATES


def command_of_comment(session: Session, repo_id: int, comment_id: int) -> Command | None:
    return session.exec(select(Command).where(Command.repo_id == repo_id, Command.comment_id == comment_id)).first()


def runs_by_names(session: Session, names: Collection[str]) -> dict[str, Run]:
    rows = session.exec(select(Run).where(col(Run.name).in_(names))).all() if names else []
    return {row.name: row for row in rows}


def open_runs_of_pull(session: Session, repo_id: int, number: int) -> Sequence[Run]:
    """Runs of a pull request that have not ended, whatever their commit, oldest first."""
    return session.exec(
        select(Run)
        .where(Run.repo_id == repo_id, Run.pull_request == number, col(Run.state).not_in(FINAL_STATES))
        .order_by(col(Run.id))
    ).all()


def newest_runs_at(session: Session, repo_id: int, number: int, sha: str) -> list[Run]:
    """Of each workflow the newest run of the pull request at this commit, in the order in which they were made."""
    rows = session.exec(
        select(Run).where(Run.repo_id == repo_id, Run.sha == sha, Run.pull_request == number).order_by(col(Run.id))
    ).all()
    return list({run.workflow: run for run in rows}.values())
