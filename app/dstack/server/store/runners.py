"""Runners."""

from __future__ import annotations

from collections.abc import Sequence

from sqlmodel import Session, col, select

from dstack.server.models import Runner


def runner_by_name(session: Session, name: str) -> Runner | None:
    return session.exec(select(Runner).where(Runner.name == name)).first()


def runner_by_id(session: Session, runner_id: int) -> Runner | None:
    return session.get(Runner, runner_id)


def list_runners(session: Session) -> Sequence[Runner]:
    return session.exec(select(Runner).order_by(col(Runner.name))).all()
