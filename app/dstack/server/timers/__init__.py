"""What happens by the clock: (name, interval, function) in one table. APScheduler starts and stops them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from sqlmodel import Session

from dstack.server.decide.silence import is_own_fault
from dstack.server.services.fire_schedules import fire_schedules
from dstack.server.services.hold_lease import expire_leases, grant_fresh_terms
from dstack.server.services.read_schedules import read_schedules
from dstack.server.services.reconcile_heads import reconcile_heads
from dstack.server.services.tidy_repos import tidy_repos
from dstack.server.store.deliveries import forget_payloads
from dstack.server.store.people import delete_expired_tokens
from dstack.server.timers.watch_github import EVERY_S, GithubWatch
from dstack.server.wiring import Wiring

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Timer:
    """`run` is called in a thread every `every_s` seconds, never twice at once; `at_start` also at once."""

    name: str
    every_s: float
    run: Callable[[Wiring], object]
    at_start: bool = False


class LeaseWatch:
    """Ends the attempts whose lease ran out; after a time in which no runner could renew, lets all leases begin anew.
    It looks inside the unit of work, so that also a writer held up for long counts as such a time."""

    def __init__(self, lease_s: float) -> None:
        self.every_s = min(5.0, lease_s / 4)
        self._looked_at: float | None = None

    def look(self, wiring: Wiring) -> None:
        wiring.db.write(lambda session: self._look(session, wiring.clock.now(), wiring.settings.lease_s))

    def _look(self, session: Session, now: float, lease_s: int) -> None:
        since = now - self._looked_at if self._looked_at is not None else 0.0
        self._looked_at = now
        if not is_own_fault(since, self.every_s, lease_s):
            expire_leases(session, now, lease_s)
        elif held := grant_fresh_terms(session, now, lease_s):
            log.warning("leases were not looked at for %.0f s: %d begin anew", since, held, extra={"action": "leases"})


def make_timers(wiring: Wiring) -> tuple[Timer, ...]:
    """All of them, as a table."""
    watch = LeaseWatch(wiring.settings.lease_s)
    return (
        Timer("expire leases", watch.every_s, watch.look),
        Timer("reconcile heads", 180, reconcile_heads, at_start=True),  # what was pushed while the last server died
        Timer("watch GitHub", EVERY_S, GithubWatch().look, at_start=True),
        Timer("read schedules", 15, read_schedules, at_start=True),
        Timer("fire schedules", 2, fire_schedules),
        Timer("tidy repositories", 3600, tidy_repos),
        Timer(
            "forget ignored webhooks", 3600, lambda w: w.db.write(lambda s: forget_payloads(s, w.clock.now() - 86_400))
        ),
        Timer("delete expired tokens", 3600, lambda w: w.db.write(lambda s: delete_expired_tokens(s, w.clock.now()))),
    )


def start_timers(wiring: Wiring) -> AsyncIOScheduler:
    """Start all of them on the running loop; `shutdown` of the answer stops them."""
    logging.getLogger("apscheduler").setLevel(logging.ERROR)
    # A pass that is late (the machine slept, the last one took long) is made once, not once for every miss.
    scheduler = AsyncIOScheduler(job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None})
    for timer in make_timers(wiring):
        first = {"next_run_time": datetime.now(UTC)} if timer.at_start else {}
        scheduler.add_job(_pass, "interval", seconds=timer.every_s, args=(wiring, timer), id=timer.name, **first)
    scheduler.start()
    return scheduler


async def _pass(wiring: Wiring, timer: Timer) -> None:
    try:
        await asyncio.to_thread(timer.run, wiring)
    except Exception:
        log.exception("%s: a pass broke", timer.name, extra={"action": timer.name})
