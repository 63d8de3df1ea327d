"""Stores an event as it came in, once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlmodel import Session

from dstack.errors import Conflict
from dstack.server.bus import DELIVERIES
from dstack.server.decide.resting import has_rested
from dstack.server.models import Delivery
from dstack.server.models.delivery import DeliveryState
from dstack.server.store.database import wake
from dstack.server.store.deliveries import Filed, Webhook, delivery_by_guid, insert_webhook


def receive_delivery(
    session: Session, kind: str, guid: str, body: dict[str, Any], *, repo_id: int | None, sender: str, now: float
) -> Delivery:
    """The stored delivery: a known guid answers the one that came first. Raises Conflict when its body differs."""
    existing = delivery_by_guid(session, guid)
    if existing is not None:
        if json.dumps(existing.body, sort_keys=True) != json.dumps(body, sort_keys=True):
            raise Conflict(f"delivery {guid} came before with another content")
        return existing
    delivery = Delivery(guid=guid, kind=kind, repo_id=repo_id, sender=sender, body=body, received_at=now)
    session.add(delivery)
    session.flush()
    wake(session, DELIVERIES)
    return delivery


def receive_found(
    session: Session, kind: str, guid: str, body: dict[str, Any], *, repo_id: int | None, sender: str, now: float
) -> None:
    """What was found by looking, and may be found again: the first telling holds, however the second words it (its
    author may be called otherwise by now). One that failed is handled again after a rest, as it was found this time."""
    known = delivery_by_guid(session, guid)
    if known is None:
        receive_delivery(session, kind, guid, body, repo_id=repo_id, sender=sender, now=now)
    elif known.state is DeliveryState.FAILED and has_rested(known.received_at, known.processed_at or now, now):
        known.state, known.tries, known.body = DeliveryState.RECEIVED, 0, body
        session.add(known)
        session.flush()
        wake(session, DELIVERIES)


def file_webhooks(session: Session, webhooks: Sequence[Webhook]) -> list[Filed]:
    """Store verified webhooks (or what the forge's log has of them), each once; what became of each."""
    filed = [insert_webhook(session, webhook) for webhook in webhooks]
    if any(one.outcome == DeliveryState.RECEIVED for one in filed):
        wake(session, DELIVERIES)
    return filed
