"""Handles deliveries in lanes: those of a repository in order, those of several side by side."""

from __future__ import annotations

import asyncio
import logging
from functools import partial

from dstack.errors import DstackError, ForgeBusy, ForgeDown, Unavailable
from dstack.server.bus import DELIVERIES, wait_for
from dstack.server.handlers import HANDLERS
from dstack.server.models import Delivery
from dstack.server.models.delivery import DeliveryState
from dstack.server.services.settle_delivery import note_failed_try, settle_delivery
from dstack.server.store.deliveries import lanes_waiting, next_delivery
from dstack.server.wiring import Wiring

log = logging.getLogger(__name__)
_AT_ONCE = 4  # a handler is mostly git; more of them would only stand in one another's way
_FROM_FORGE = 4  # and those that ask a forge: one that does not answer keeps no push to our own remote waiting
_ASKS_FORGE = ("github", "found-")
_AGAIN_S = 1.0
_AGAIN_AT_FORGE_S = (5.0, 60.0)  # first, and at most
_RECHECK_S = 30.0
_LOOK_S = 0.02  # between two looks for new lanes: a burst of deliveries is seen at once, not one by one


async def handle_deliveries(wiring: Wiring) -> None:
    """Until none is left. One repository whose files take git a minute keeps no other waiting."""
    busy = set[int | None]()
    own, forge = asyncio.Semaphore(_AT_ONCE), asyncio.Semaphore(_FROM_FORGE)
    with wiring.bus.listen(DELIVERIES) as news:

        async def lane(repo_id: int | None) -> None:
            delay = 0.0
            try:
                while (delivery := await wiring.db.read_async(partial(next_delivery, repo_id=repo_id))) is not None:
                    is_from_forge = delivery.kind.startswith(_ASKS_FORGE)
                    async with forge if is_from_forge else own:
                        if is_from_forge:  # a forge gives up on us when its webhooks are not answered in time
                            await wiring.rush.let_pass()
                        delay = await _handle_safely(wiring, delivery, delay)
                    if delay:
                        await asyncio.sleep(delay)
            finally:
                busy.discard(repo_id)
                news.set()  # one that came after the last look found the lane still busy

        async with asyncio.TaskGroup() as lanes:
            while True:
                news.clear()
                for repo_id in await wiring.db.read_async(lanes_waiting):
                    if repo_id not in busy:
                        busy.add(repo_id)
                        lanes.create_task(lane(repo_id))
                if not busy:
                    return
                if await wait_for(news, _RECHECK_S):
                    await asyncio.sleep(_LOOK_S if busy else 0)


async def _handle_safely(wiring: Wiring, delivery: Delivery, delay: float) -> float:
    """A lane outlives whatever one delivery does; the seconds after which it comes to it again, 0 when it is done."""
    try:
        await asyncio.to_thread(handle_delivery, wiring, delivery)
    except (ForgeBusy, ForgeDown) as error:
        first, most = _AGAIN_AT_FORGE_S
        again = error.retry_after if isinstance(error, ForgeBusy) else min(most, max(first, delay * 2))
        log.warning("delivery %s waits %.0f s: %s", delivery.id, again, error.message, extra={"action": "delivery"})
        return again
    except DstackError as error:
        log.warning("delivery %s waits: %s", delivery.id, error.message, extra={"action": "delivery"})
    except Exception:
        log.exception("delivery %s could not be handled", delivery.id, extra={"action": "delivery"})
    else:
        return 0.0
    return _AGAIN_S


def handle_delivery(wiring: Wiring, delivery: Delivery) -> None:
    """Hand a delivery to its handler; a handler that breaks is tried again, then the delivery fails with the reason.

    Raises Unavailable, ForgeBusy and ForgeDown: the database, the disk or the forge is at fault then, and the delivery
    waits for it.
    """
    handler = HANDLERS.get(delivery.kind)
    delivery_id, now = delivery.id or 0, wiring.clock.now()
    if handler is None:
        why = f"nothing handles {delivery.kind}"
        wiring.db.write(lambda s: settle_delivery(s, delivery_id, DeliveryState.IGNORED, why, now))
        return
    try:
        handler(wiring, delivery)
    except (Unavailable, ForgeBusy, ForgeDown):
        raise
    except Exception as error:
        log.exception("delivery %s broke its handler", delivery_id, extra={"action": "delivery"})
        problem = error.message if isinstance(error, DstackError) else f"internal error: {type(error).__name__}"
        wiring.db.write(lambda s: note_failed_try(s, delivery_id, problem, now))
