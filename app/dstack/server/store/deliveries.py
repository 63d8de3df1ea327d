"""The inbox."""

from __future__ import annotations

from collections.abc import Sequence

from sqlmodel import Session, col, select

from dstack.server.models import Delivery, Group
from dstack.server.models.delivery import DeliveryState


def delivery_by_guid(session: Session, guid: str) -> Delivery | None:
    return session.exec(select(Delivery).where(Delivery.guid == guid)).first()


def delivery_by_id(session: Session, delivery_id: int) -> Delivery:
    delivery = session.get(Delivery, delivery_id)
    assert delivery is not None, f"delivery {delivery_id} is referred to and must exist"
    return delivery


def deliveries_to_handle(session: Session, limit: int = 50) -> Sequence[Delivery]:
    """Stored and not handled yet, oldest first."""
    return session.exec(
        select(Delivery).where(Delivery.state == DeliveryState.RECEIVED).order_by(col(Delivery.id)).limit(limit)
    ).all()


def groups_of_delivery(session: Session, delivery_id: int) -> Sequence[Group]:
    return session.exec(select(Group).where(Group.delivery_id == delivery_id).order_by(col(Group.id))).all()
