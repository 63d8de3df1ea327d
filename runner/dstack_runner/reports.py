"""Tells the server how an attempt moves on, in order and on a thread of its own, so that no step waits for an answer.

States that pile up while a call is under way are sent as the newest alone. Metric points go by number: a repetition
stores nothing twice.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial

from dstack.errors import DstackError, LeaseLost
from dstack.wire.runner import MetricPoint, MetricsReport, StateReport
from dstack.wire.states import AttemptState
from dstack_runner.server import Server, persist

log = logging.getLogger(__name__)
BATCH = 1000
EVERY_S = 1.0
SETTLE_S = 0.1  # a step over sooner than this is not worth a call, except the one that says that the job runs


class Reporter:
    """`say` states as they come; `collect` is asked for new metric points every second. `close` sends what is left."""

    def __init__(
        self,
        server: Server,
        attempt: str,
        lease: str,
        *,
        collect: Callable[[], tuple[MetricPoint, ...]],
        on_lost: Callable[[], None],
        give_up: threading.Event,
    ) -> None:
        self._server = server
        self._attempt = attempt
        self._lease = lease
        self._collect = collect
        self._on_lost = on_lost
        self._give_up = give_up
        self._state: StateReport | None = None
        self._points: list[MetricPoint] = []
        self._last: tuple[MetricPoint, ...] = ()
        self._sent = 0
        self._has_run_told = False  # the server knows that the attempt came beyond its preparation
        self._change = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name=f"reports-{attempt}", daemon=True)
        self._thread.start()

    def say(self, report: StateReport) -> None:
        with self._change:
            self._state = report
            self._change.notify()

    def close(self, last: tuple[MetricPoint, ...] = ()) -> None:
        """Send the `last` points and end. States not sent yet are overtaken by the attempt's end and dropped, unless
        the server does not know that the commands have run: without that it would not believe in a success."""
        with self._change:
            self._last = last
            self._closing = True
            self._change.notify()
        self._thread.join()
        self._server.close()

    def _run(self) -> None:
        try:
            while True:
                with self._change:
                    if self._state is None and not self._closing:
                        self._change.wait(EVERY_S)
                    self._change.wait_for(self._is_worth_telling, SETTLE_S)
                    state, self._state = self._state, None
                    closing = self._closing
                if state is not None and not (closing and self._has_run_told):
                    self._persist(partial(self._server.state, self._attempt, self._lease, state))
                    self._has_run_told = state.state is not AttemptState.PREPARING
                self._points.extend(self._last if closing else self._collect())
                self._send_points()
                if closing:
                    return
        except LeaseLost:
            self._on_lost()
        except DstackError as error:
            log.warning("attempt %s: reports ended: %s", self._attempt, error.message)

    def _is_worth_telling(self) -> bool:
        return self._closing or self._state is None or self._state.state is AttemptState.RUNNING

    def _send_points(self) -> None:
        while self._points:
            batch = tuple(self._points[:BATCH])
            report = MetricsReport(self._sent, batch)
            self._persist(partial(self._server.metrics, self._attempt, self._lease, report))
            self._sent += len(batch)
            del self._points[: len(batch)]

    def _persist(self, call: Callable[[], None]) -> None:
        if self._give_up.is_set():
            raise LeaseLost("the lease is gone: nothing more is told")
        persist(call, self._give_up, on_wait=lambda error: log.info("%s: %s", self._attempt, error.message))
