"""What happens by the clock: (name, interval, function) in one table. APScheduler starts and stops them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from apscheduler.schedulers.asyncio import AsyncIOScheduler

from dstack.server.services.hold_lease import expire_leases
from dstack.server.services.reconcile_heads import reconcile_heads
from dstack.server.services.tidy_repos import tidy_repos
from dstack.server.store.people import delete_expired_tokens
from dstack.server.wiring import Wiring

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Timer:
    """`run` is called in a thread every `every_s` seconds, never twice at once; `at_start` also at once."""

    name: str
    every_s: float
    run: Callable[[Wiring], object]
    at_start: bool = False


def expire(wiring: Wiring) -> None:
    """End the attempts whose lease ran out."""
    wiring.db.write(lambda s: expire_leases(s, wiring.clock.now(), wiring.settings.lease_s))


TIMERS = (
    Timer("expire leases", 5, expire),
    Timer("reconcile heads", 180, reconcile_heads, at_start=True),  # what was pushed while the last server died
    Timer("tidy repositories", 3600, tidy_repos),
    Timer("delete expired tokens", 3600, lambda w: w.db.write(lambda s: delete_expired_tokens(s, w.clock.now()))),
)


def start_timers(wiring: Wiring) -> AsyncIOScheduler:
    """Start all of them on the running loop; `shutdown` of the answer stops them."""
    logging.getLogger("apscheduler").setLevel(logging.ERROR)
    # A pass that is late (the machine slept, the last one took long) is made once, not once for every miss.
    scheduler = AsyncIOScheduler(job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None})
    for timer in TIMERS:
        every_s = min(timer.every_s, wiring.settings.lease_s / 4) if timer.run is expire else timer.every_s
        first = {"next_run_time": datetime.now(UTC)} if timer.at_start else {}
        scheduler.add_job(_pass, "interval", seconds=every_s, args=(wiring, timer), id=timer.name, **first)
    scheduler.start()
    return scheduler


async def _pass(wiring: Wiring, timer: Timer) -> None:
    try:
        await asyncio.to_thread(timer.run, wiring)
    except Exception:
        log.exception("%s: a pass broke", timer.name, extra={"action": timer.name})
