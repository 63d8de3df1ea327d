"""The door for runners: registering, polling, and the life of an attempt (`wire.runner.CALLS`)."""

from __future__ import annotations

import asyncio
import time

from sqlmodel import Session
from starlette.concurrency import run_in_threadpool

from dstack.errors import Conflict, NotSignedIn
from dstack.server.bus import log_topic, runner_topic, wait_for
from dstack.server.failpoints import reach
from dstack.server.models import Attempt, Runner
from dstack.server.services.accept_offer import Refused, accept_offer
from dstack.server.services.hold_lease import held_attempt, renew_leases, stops_for
from dstack.server.services.register_runner import register_runner, see_runner
from dstack.server.services.report_attempt import finish_attempt, record_metrics, report_state
from dstack.server.store.attempts import offers_of_runner
from dstack.server.store.jobs import job_by_id
from dstack.server.store.runners import runner_by_id
from dstack.server.store.runs import run_by_id
from dstack.server.web.access import Audience, the_runner
from dstack.server.web.operation import Call, Operations
from dstack.wire.runner import (
    LEASE_HEADER,
    POLL_S,
    Finish,
    MetricsReport,
    Offer,
    Order,
    Poll,
    Polled,
    Registered,
    Registration,
    Renewal,
    Renewed,
    StateReport,
)

operations = Operations()
_AGAIN_S = 3.0  # an offer or stop that a runner was told of is told again after this, in case the answer was lost
_FINISH_BYTES = 16 * 1024 * 1024  # the job list of a custom provider may have 4 million characters, as JSON in JSON


@operations.add("POST", "/api/v1/runners", Audience.REGISTRAR, takes=Registration, gives=Registered, status=201)
async def register(call: Call) -> Registered:
    """A runner introduces itself and gets its own token."""
    return await call.wiring.db.write_async(lambda s: register_runner(s, call.body, call.wiring.clock))


class _Told:
    """Which offers and stops each runner heard of lately, so that a poll does not answer at once with old news."""

    def __init__(self) -> None:
        self._when: dict[str, float] = {}

    def is_news(self, key: str) -> bool:
        return time.monotonic() - self._when.get(key, -_AGAIN_S) >= _AGAIN_S

    def note(self, keys: list[str]) -> None:
        now = time.monotonic()
        if len(self._when) > 10_000:
            self._when = {k: t for k, t in self._when.items() if now - t < _AGAIN_S}
        self._when.update(dict.fromkeys(keys, now))


_told = _Told()


@operations.add("POST", "/api/v1/runner/poll", Audience.RUNNER, takes=Poll, gives=Polled)
async def poll(call: Call) -> Polled:
    """Waits until there is an offer to take or an attempt to stop, at most `wait_s` seconds."""
    wiring, runner, body = call.wiring, the_runner(call.caller), call.body
    now = wiring.clock.now()
    await wiring.db.write_async(
        lambda s: see_runner(s, _still_known(s, call), body.capacity, draining=body.draining, now=now)
    )
    deadline = asyncio.get_running_loop().time() + (min(body.wait_s, POLL_S) if body.wait_s > 0 else 0)
    with wiring.bus.listen(runner_topic(runner.id or 0)) as event:
        while True:
            polled = wiring.db.read(lambda s: _news(s, call))
            left = deadline - asyncio.get_running_loop().time()
            if polled.offers or polled.stops or left <= 0 or wiring.bus.is_closed:
                if polled.offers:
                    reach("offer-before-reply")
                _told.note([o.attempt for o in polled.offers] + [f"stop {s.attempt}" for s in polled.stops])
                return polled
            await wait_for(event, min(left, _AGAIN_S))


def _news(session: Session, call: Call) -> Polled:
    runner, vault = the_runner(call.caller), call.wiring.vault
    offers = [
        Offer(o.id, vault.lease(o.id), _run_name(session, o.job_id), devices=tuple(o.devices))
        for o in offers_of_runner(session, runner.id or 0)
        if _told.is_news(o.id)
    ]
    stops = [stop for stop in stops_for(session, runner) if _told.is_news(f"stop {stop.attempt}")]
    return Polled(tuple(offers), tuple(stops))


def _run_name(session: Session, job_id: int) -> str:
    return run_by_id(session, job_by_id(session, job_id).run_id).name


def _still_known(session: Session, call: Call) -> Runner:
    """The caller's row as it stands now. Raises NotSignedIn when it was removed since its token was looked up."""
    runner = runner_by_id(session, the_runner(call.caller).id or 0)
    if runner is None or runner.last_seen_at == 0:
        raise NotSignedIn("this runner was removed", "Register it again.")
    return runner


@operations.add("POST", "/api/v1/runner/renew", Audience.RUNNER, takes=Renewal, gives=Renewed)
async def renew(call: Call) -> Renewed:
    """Gives every attempt still held a fresh term."""
    wiring, now = call.wiring, call.wiring.clock.now()
    return await wiring.db.write_async(
        lambda s: renew_leases(s, _still_known(s, call), call.body.leases, wiring.vault, now, wiring.settings.lease_s)
    )


@operations.add("POST", "/api/v1/attempts/{attempt}/accept", Audience.RUNNER, gives=Order)
async def accept(call: Call) -> Order:
    """Turns an offer into a live attempt."""
    wiring, runner, now = call.wiring, the_runner(call.caller), call.wiring.clock.now()
    answer = await wiring.db.write_async(
        lambda s: accept_offer(s, runner, call.path("attempt"), wiring.vault, now, wiring.settings.lease_s)
    )
    reach("accept-before-reply")
    if isinstance(answer, Refused):
        raise Conflict(answer.message)
    return answer


def held(session: Session, call: Call) -> Attempt:
    """The live attempt of this call's path, if caller and `Dstack-Lease` hold it."""
    lease = call.request.headers.get(LEASE_HEADER, "")
    return held_attempt(session, the_runner(call.caller), call.path("attempt"), lease, call.wiring.vault)


@operations.add("POST", "/api/v1/attempts/{attempt}/state", Audience.RUNNER, takes=StateReport)
async def state(call: Call) -> None:
    """The attempt moved on."""
    now = call.wiring.clock.now()
    await call.wiring.db.write_async(lambda s: report_state(s, held(s, call), call.body, now))


@operations.add("POST", "/api/v1/attempts/{attempt}/metrics", Audience.RUNNER, takes=MetricsReport)
async def metrics(call: Call) -> None:
    """Metric points by offset."""
    now = call.wiring.clock.now()
    await call.wiring.db.write_async(lambda s: record_metrics(s, held(s, call), call.body, now))


@operations.add("POST", "/api/v1/attempts/{attempt}/finish", Audience.RUNNER, takes=Finish, limit=_FINISH_BYTES)
async def finish(call: Call) -> None:
    """The attempt's end. Sent again after it was taken, it is answered the same."""
    wiring, attempt_id, now = call.wiring, call.path("attempt"), call.wiring.clock.now()
    if wiring.db.read(lambda s: _is_told(s, call)):
        return
    await run_in_threadpool(wiring.logs.finish, attempt_id)
    await wiring.db.write_async(lambda s: _finish_once(s, call, now))
    reach("finish-before-reply")
    wiring.bus.publish([log_topic(attempt_id)])


def _finish_once(session: Session, call: Call, now: float) -> None:
    if not _is_told(session, call):
        finish_attempt(session, held(session, call), call.body, now)


def _is_told(session: Session, call: Call) -> bool:
    """Whether this very end was taken before. Raises NotFound and LeaseLost for one that may not be told."""
    attempt = session.get(Attempt, call.path("attempt"))
    lease = call.request.headers.get(LEASE_HEADER, "")
    is_repeated = (
        attempt is not None
        and attempt.runner_id == the_runner(call.caller).id
        and attempt.state.is_final
        and attempt.state is call.body.state
        and call.wiring.vault.is_lease(attempt.id, lease)
    )
    if not is_repeated:
        held(session, call)
    return is_repeated
