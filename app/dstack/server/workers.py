"""The tasks that are woken by what happens: handling deliveries, assigning jobs, writing notes.

Each has one shape: wait until woken or a while has passed, do one pass, and never die of an error.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from dstack.errors import DstackError
from dstack.server.bus import DELIVERIES, OUTBOX, QUEUE, wait_for
from dstack.server.gateways.history import History
from dstack.server.lanes import handle_deliveries
from dstack.server.outbox_lanes import OutboxLanes
from dstack.server.services.assign_jobs import assign_jobs, explain_full_disk
from dstack.server.services.enforce_budgets import enforce_budgets
from dstack.server.services.judge_runs import judge_runs
from dstack.server.services.send_notifications import send_notifications
from dstack.server.services.write_notes import write_notes
from dstack.server.web.disk_space import disk_problem
from dstack.server.wiring import Wiring

log = logging.getLogger(__name__)
_LONGEST_REST_S = 5.0


@dataclass(frozen=True, slots=True)
class Worker:
    """`one_pass` runs when `topic` is published, and at least every `every_s` seconds. `share` is the part of the time
    it may take: below 1 it rests between passes, so that what is marked again and again is rendered once for many."""

    name: str
    topic: str
    every_s: float
    one_pass: Callable[[], Awaitable[None]]
    share: float = 1.0


def make_workers(wiring: Wiring) -> list[Worker]:
    """All of them, as a table."""

    async def deliveries() -> None:
        await handle_deliveries(wiring)

    async def assign() -> None:
        if problem := disk_problem(wiring):
            await wiring.db.write_async(lambda s: explain_full_disk(s, problem, wiring.clock.now()))
        else:
            await wiring.db.write_async(lambda s: assign_jobs(s, wiring.clock))

    async def notes() -> None:
        await asyncio.to_thread(write_notes, wiring)

    async def budgets() -> None:
        await asyncio.to_thread(enforce_budgets, wiring)

    async def notify() -> None:
        await asyncio.to_thread(send_notifications, wiring)

    history = History(wiring.git)

    async def verdicts() -> None:
        await asyncio.to_thread(judge_runs, wiring, history)

    return [
        Worker("deliveries", DELIVERIES, 30.0, deliveries),
        Worker("assign", QUEUE, 5.0, assign),
        Worker("budgets", QUEUE, 5.0, budgets, share=0.2),
        Worker("verdicts", OUTBOX, 15.0, verdicts, share=0.3),
        Worker("notes", OUTBOX, 15.0, notes, share=0.2),
        Worker("notify", OUTBOX, 10.0, notify),
        Worker("forge", OUTBOX, 30.0, OutboxLanes(wiring).send),
    ]


async def run_worker(wiring: Wiring, worker: Worker) -> None:
    """For ever; cancelled at the server's stop."""
    with wiring.bus.listen(worker.topic) as event:
        while True:
            began = time.monotonic()
            try:
                await worker.one_pass()
            except DstackError as error:
                log.warning("%s: %s", worker.name, error.message, extra={"action": worker.name})
                await asyncio.sleep(1)
            except Exception:
                log.exception("%s: a pass broke", worker.name, extra={"action": worker.name})
                await asyncio.sleep(1)
            await asyncio.sleep(min(_LONGEST_REST_S, (time.monotonic() - began) * (1 / worker.share - 1)))
            await wait_for(event, worker.every_s)
