"""Reads deliveries into the view that the client API and the pages show, never their payloads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import defer
from sqlmodel import Session, col, select

from dstack.server.models import Delivery, Group, Repo, Run
from dstack.server.models.delivery import DeliveryState
from dstack.server.store.views import iso, iso_or_none
from dstack.wire.api import DeliveryView


@dataclass(frozen=True, slots=True)
class DeliveryFilter:
    """Which to list; empty means any. `before` is the cursor: only those with a smaller id. `but_of` leaves out what
    was ignored of this sender: the forge tells our App of everything it did itself."""

    repo_id: int | None = None
    state: str = ""
    before: int | None = None
    but_of: str = ""


def list_deliveries(session: Session, want: DeliveryFilter, limit: int) -> list[DeliveryView]:
    """Newest first."""
    query = _light().order_by(col(Delivery.id).desc()).limit(limit)
    if want.repo_id is not None:
        query = query.where(Delivery.repo_id == want.repo_id)
    if want.state:
        query = query.where(Delivery.state == DeliveryState(want.state))
    if want.but_of:
        query = query.where((Delivery.state != DeliveryState.IGNORED) | (Delivery.sender != want.but_of))
    if want.before is not None:
        query = query.where(col(Delivery.id) < want.before)
    return _views(session, session.exec(query).all())


def view_delivery(session: Session, delivery_id: int) -> DeliveryView | None:
    found = _views(session, session.exec(_light().where(Delivery.id == delivery_id)).all())
    return found[0] if found else None


def _light() -> Any:
    """Payloads have up to 25 MB each."""
    return select(Delivery).options(defer(col(Delivery.payload)), defer(col(Delivery.body)))  # type: ignore[arg-type]


def _views(session: Session, rows: Sequence[Delivery]) -> list[DeliveryView]:
    repo_ids = {row.repo_id for row in rows if row.repo_id is not None}
    repos = {r.id: r.full_name for r in session.exec(select(Repo).where(col(Repo.id).in_(repo_ids))).all()}
    runs = _runs(session, [row.id or 0 for row in rows])
    return [
        DeliveryView(
            id=row.id or 0,
            event=row.event or row.kind,
            repo=repos.get(row.repo_id, ""),
            sender=row.sender,
            state=row.state.value,
            reason=row.reason,
            received_at=iso(row.received_at),
            processed_at=iso_or_none(row.processed_at),
            runs=runs.get(row.id or 0, []),
            guid=row.guid,
            tries=row.tries,
            replay_of=row.replay_of,
        )
        for row in rows
    ]


def _runs(session: Session, ids: Sequence[int]) -> dict[int, list[str]]:
    """Delivery id -> the names of the runs it made."""
    found: dict[int, list[str]] = {}
    query = (
        select(Group.delivery_id, Run.name)
        .join(Run, col(Run.group_id) == Group.id)
        .where(col(Group.delivery_id).in_(ids))
        .order_by(col(Run.id))
    )
    for delivery_id, name in session.exec(query).all() if ids else []:
        found.setdefault(delivery_id or 0, []).append(name)
    return found
