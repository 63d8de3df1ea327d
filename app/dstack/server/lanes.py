"""Handles deliveries in lanes: those of a repository in order, those of several side by side."""

from __future__ import annotations

import asyncio
import logging
from functools import partial

from dstack.errors import DstackError, Unavailable
from dstack.server.bus import DELIVERIES, wait_for
from dstack.server.handlers import HANDLERS
from dstack.server.models import Delivery
from dstack.server.models.delivery import DeliveryState
from dstack.server.services.settle_delivery import note_failed_try, settle_delivery
from dstack.server.store.deliveries import next_deliveries, next_delivery
from dstack.server.wiring import Wiring

log = logging.getLogger(__name__)
_AT_ONCE = 4  # a handler is mostly git; more of them would only stand in one another's way
_AGAIN_S = 1.0
_RECHECK_S = 30.0


async def handle_deliveries(wiring: Wiring) -> None:
    """Until none is left. One repository whose files take git a minute keeps no other waiting."""
    slots, busy = asyncio.Semaphore(_AT_ONCE), set[int | None]()
    with wiring.bus.listen(DELIVERIES) as news:

        async def lane(repo_id: int | None, first: Delivery) -> None:
            delivery: Delivery | None = first
            try:
                while delivery is not None:
                    async with slots:
                        await _handle_safely(wiring, delivery)
                    delivery = await wiring.db.read_async(partial(next_delivery, repo_id=repo_id))
            finally:
                busy.discard(repo_id)
                news.set()  # one that came after the last look found the lane still busy

        async with asyncio.TaskGroup() as lanes:
            while True:
                news.clear()
                for delivery in await wiring.db.read_async(next_deliveries):
                    if delivery.repo_id not in busy:
                        busy.add(delivery.repo_id)
                        lanes.create_task(lane(delivery.repo_id, delivery))
                if not busy:
                    return
                await wait_for(news, _RECHECK_S)


async def _handle_safely(wiring: Wiring, delivery: Delivery) -> None:
    """A lane outlives whatever one delivery does; it comes to it again."""
    try:
        await asyncio.to_thread(handle_delivery, wiring, delivery)
    except DstackError as error:
        log.warning("delivery %s waits: %s", delivery.id, error.message, extra={"action": "delivery"})
        await asyncio.sleep(_AGAIN_S)
    except Exception:
        log.exception("delivery %s could not be handled", delivery.id, extra={"action": "delivery"})
        await asyncio.sleep(_AGAIN_S)


def handle_delivery(wiring: Wiring, delivery: Delivery) -> None:
    """Hand a delivery to its handler; a handler that breaks is tried again, then the delivery fails with the reason.

    Raises Unavailable: the database or the disk is at fault then, and the delivery waits for it.
    """
    handler = HANDLERS.get(delivery.kind)
    delivery_id, now = delivery.id or 0, wiring.clock.now()
    if handler is None:
        why = f"nothing handles {delivery.kind}"
        wiring.db.write(lambda s: settle_delivery(s, delivery_id, DeliveryState.IGNORED, why, now))
        return
    try:
        handler(wiring, delivery)
    except Unavailable:
        raise
    except Exception as error:
        log.exception("delivery %s broke its handler", delivery_id, extra={"action": "delivery"})
        problem = error.message if isinstance(error, DstackError) else f"internal error: {type(error).__name__}"
        wiring.db.write(lambda s: note_failed_try(s, delivery_id, problem, now))
