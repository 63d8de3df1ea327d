"""Metric points per step."""

from __future__ import annotations

from collections.abc import Sequence

from sqlmodel import Session, col, func, select

from dstack.server.models import Metric


def metric_points(session: Session, attempt_id: str, most: int) -> Sequence[tuple[str, int, float]]:
    """Name, step and value of the points per step, about `most` of them: every n-th where there are more, and the last
    of each name."""
    has_step = (Metric.attempt_id == attempt_id, col(Metric.step).is_not(None))
    count = session.exec(select(func.count()).select_from(Metric).where(*has_step)).one()
    last = select(func.max(Metric.position)).where(*has_step).group_by(col(Metric.name))
    thinned = (col(Metric.position) % max(1, count // most) == 0) | col(Metric.position).in_(last)
    rows = session.exec(
        select(Metric.name, Metric.step, Metric.value).where(*has_step, thinned).order_by(col(Metric.position))
    ).all()
    return [(name, step, value) for name, step, value in rows if step is not None]
