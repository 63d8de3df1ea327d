"""The inbox."""

from __future__ import annotations

from collections.abc import Sequence

from sqlmodel import Session, col, func, select

from dstack.server.models import Delivery, Group
from dstack.server.models.delivery import DeliveryState


def delivery_by_guid(session: Session, guid: str) -> Delivery | None:
    return session.exec(select(Delivery).where(Delivery.guid == guid)).first()


def delivery_by_id(session: Session, delivery_id: int) -> Delivery:
    delivery = session.get(Delivery, delivery_id)
    assert delivery is not None, f"delivery {delivery_id} is referred to and must exist"
    return delivery


def next_deliveries(session: Session) -> Sequence[Delivery]:
    """Of each repo (None: of none) the oldest that is stored and not handled yet."""
    oldest = (
        select(func.min(Delivery.id)).where(Delivery.state == DeliveryState.RECEIVED).group_by(col(Delivery.repo_id))
    )
    return session.exec(select(Delivery).where(col(Delivery.id).in_(oldest)).order_by(col(Delivery.id))).all()


def next_delivery(session: Session, repo_id: int | None) -> Delivery | None:
    """The same of one repo."""
    return session.exec(
        select(Delivery)
        .where(Delivery.state == DeliveryState.RECEIVED, col(Delivery.repo_id).is_not_distinct_from(repo_id))
        .order_by(col(Delivery.id))
        .limit(1)
    ).first()


def groups_of_delivery(session: Session, delivery_id: int) -> Sequence[Group]:
    return session.exec(select(Group).where(Group.delivery_id == delivery_id).order_by(col(Group.id))).all()
