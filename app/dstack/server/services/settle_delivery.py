"""Says what became of a delivery."""

from __future__ import annotations

from sqlmodel import Session

from dstack.server.bus import delivery_topic
from dstack.server.models.delivery import DeliveryState
from dstack.server.store.database import wake
from dstack.server.store.deliveries import delivery_by_id, end_delivery

MAX_TRIES = 3


def settle_delivery(
    session: Session, delivery_id: int, state: DeliveryState, reason: str, now: float, *, repo_id: int | None = None
) -> None:
    """Its end, with the reason; whoever waits for it is woken. `repo_id`: what it was about, where that was not known
    when it came."""
    end_delivery(session, delivery_id, state, reason[:4000], now, repo_id)
    wake(session, delivery_topic(delivery_id))


def note_failed_try(session: Session, delivery_id: int, problem: str, now: float) -> None:
    """A handler broke: try again, and give up after `MAX_TRIES`."""
    delivery = delivery_by_id(session, delivery_id)
    delivery.tries += 1
    session.add(delivery)
    if delivery.tries >= MAX_TRIES:
        settle_delivery(session, delivery_id, DeliveryState.FAILED, problem, now)
