"""Handles a delivery once more, as a delivery of its own."""

from __future__ import annotations

from sqlmodel import Session

from dstack.errors import Conflict, NotFound
from dstack.server.bus import DELIVERIES
from dstack.server.clock import Clock
from dstack.server.models import Delivery
from dstack.server.models.delivery import DeliveryState
from dstack.server.store.database import wake
from dstack.server.store.deliveries import groups_of_delivery

# Their runs have the natural key of what happened: handled again, they make those that are missing and no other.
_KEYED = frozenset({"push", "github", "found-pull", "found-comment"})
_RUN_AGAIN = ("check_run.", "check_suite.")  # whoever asks for that means a new run each time


def replay_delivery(session: Session, delivery_id: int, *, by: str, clock: Clock) -> Delivery:
    """The same event, filed anew. Raises NotFound; Conflict for one that is not handled yet, or whose runs would be
    made a second time."""
    old = session.get(Delivery, delivery_id)
    if old is None:
        raise NotFound(f"there is no delivery {delivery_id}", "`dstack deliveries` lists them.")
    if old.state is DeliveryState.RECEIVED:
        raise Conflict(f"delivery {delivery_id} has not been handled yet", "Wait for it.")
    if old.kind == "github" and old.payload is None:
        raise Conflict(f"nothing is left of delivery {delivery_id}", "What was ignored is kept for a day.")
    is_keyed = old.kind in _KEYED and not old.event.startswith(_RUN_AGAIN)
    if not is_keyed and groups_of_delivery(session, delivery_id):
        raise Conflict(
            f"delivery {delivery_id} ({old.event or old.kind}) has made its runs",
            "`dstack restart RUN` does their work again.",
        )
    new = Delivery(
        guid=f"replay:{delivery_id}:{clock.new_id()}",
        kind=old.kind,
        repo_id=old.repo_id,
        sender=old.sender,
        body=old.body,
        event=old.event,
        payload=old.payload,
        digest=old.digest,
        replay_of=delivery_id,
        reason=f"replayed by {by}",
        received_at=clock.now(),
    )
    session.add(new)
    session.flush()
    wake(session, DELIVERIES)
    return new
