"""Keeps the leases of live attempts: one call renews all of them, on a thread and a connection of its own.

A failed renewal never drops a job: training goes on, and the next try follows soon. Only the server's word (or a day
of silence) ends an attempt here.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping

from dstack.errors import DstackError
from dstack.wire.runner import LEASE_S, RENEW_EVERY_S, Renewal, Renewed, Stop
from dstack.wire.states import Reason
from dstack_runner.server import Server

log = logging.getLogger(__name__)
RETRY_S = 2.0


def judge(asked: Mapping[str, str], answer: Renewed) -> tuple[Stop, ...]:
    """What must stop after a renewal: what the server says, and what it does not know as ours any more."""
    named = {stop.attempt for stop in answer.stops} | set(answer.held)
    unknown = tuple(Stop(attempt, Reason.RUNNER_LOST, 0, lost=True) for attempt in asked if attempt not in named)
    return tuple(answer.stops) + unknown


def silent_too_long(asked: Mapping[str, str], silent_s: float, limit_s: float) -> tuple[Stop, ...]:
    """What must stop while no server answers: everything, once the limit has passed."""
    if silent_s < limit_s:
        return ()
    return tuple(Stop(attempt, Reason.RUNNER_LOST, 0, lost=True) for attempt in asked)


class LeaseKeeper:
    """Renews what it holds every `every_s` seconds, from `start` to `close`; `on_stop` is called from its thread."""

    def __init__(
        self,
        server: Server,
        on_stop: Callable[[Stop], None],
        *,
        offline_limit_s: float,
        every_s: float = RENEW_EVERY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._server = server
        self._on_stop = on_stop
        self._offline_limit_s = offline_limit_s
        self._every_s = every_s
        self._clock = clock
        self._leases: dict[str, str] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._wake = threading.Event()
        self._last_good = clock()
        self._thread = threading.Thread(target=self._run, name="leases", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout=20)
        self._server.close()

    def hold(self, attempt: str, lease: str, lease_s: float = LEASE_S, *, begun_at: float | None = None) -> None:
        """Renew this lease too; `lease_s` is its term, a sixth of which is the longest pause. Its term may run since
        `begun_at`, where that is known: one that is older than the pause is renewed at once."""
        with self._lock:
            is_shorter = lease_s / 6 < self._every_s
            self._every_s = min(self._every_s, lease_s / 6)
            if not self._leases:
                self._last_good = self._clock()  # silence counts from the first lease on
            self._leases[attempt] = lease
            is_old = begun_at is not None and self._clock() - begun_at > self._every_s
        if is_shorter or is_old:
            self._wake.set()  # the pause under way may be longer than what is left of this term

    def drop(self, attempt: str) -> None:
        with self._lock:
            self._leases.pop(attempt, None)

    def renew_once(self) -> bool:
        """One renewal of everything held; False when it failed. Its consequences are told to `on_stop`."""
        with self._lock:
            asked = dict(self._leases)
        if not asked:
            return True
        try:
            stops = judge(asked, self._server.renew(Renewal(asked)))
        except DstackError as error:
            silent_s = self._clock() - self._last_good
            log.warning("leases not renewed for %.0f s, jobs go on: %s", silent_s, error.message)
            for stop in silent_too_long(asked, silent_s, self._offline_limit_s):
                self._on_stop(stop)
            return False
        self._last_good = self._clock()
        for stop in stops:
            self._on_stop(stop)
        return True

    def _run(self) -> None:
        wait_s = self._every_s
        while not self._closed.is_set():
            self._wake.wait(wait_s)
            self._wake.clear()
            if not self._closed.is_set():
                wait_s = self._every_s if self._renew_safely() else min(RETRY_S, self._every_s)

    def _renew_safely(self) -> bool:
        try:
            return self.renew_once()
        except Exception:
            log.exception("a renewal broke; the next one follows")
            return False
