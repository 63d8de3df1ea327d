"""What is due by the clock."""

from __future__ import annotations

from collections.abc import Sequence

from sqlmodel import Session, col, select

from dstack.server.models import Schedule


def schedules_due(session: Session, now: float) -> Sequence[Schedule]:
    return session.exec(select(Schedule).where(Schedule.due_at <= now).order_by(col(Schedule.due_at))).all()


def schedules_of_repo(session: Session, repo_id: int) -> Sequence[Schedule]:
    return session.exec(
        select(Schedule).where(Schedule.repo_id == repo_id).order_by(col(Schedule.workflow), col(Schedule.cron))
    ).all()
