"""Metric points per step."""

from __future__ import annotations

from collections.abc import Sequence

from sqlmodel import Session, col, select

from dstack.server.models import Metric


def metrics_of_attempt(session: Session, attempt_id: str) -> Sequence[Metric]:
    return session.exec(select(Metric).where(Metric.attempt_id == attempt_id).order_by(col(Metric.position))).all()
