"""Carries one attempt from its order to its end: a visible list of steps, then cleanup, the last of the log, Finish.

What the server must hear in order is decided here; how each thing is done is in the steps.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from dstack.errors import DstackError, LeaseLost
from dstack.wire.runner import LEASE_HEADER, Finish, MetricPoint, Order, StateReport, Stop
from dstack.wire.states import AttemptState, Reason
from dstack_runner.artifacts import Artifacts
from dstack_runner.attempt import Attempt, Kit, Places
from dstack_runner.content.api import LogApi
from dstack_runner.content.http import HttpContent
from dstack_runner.control import Control, Stopped
from dstack_runner.ends import say_waiting, send_finish
from dstack_runner.executors.base import JobUser
from dstack_runner.joblog import JobLog
from dstack_runner.logs import LogSender, LogWriter
from dstack_runner.mask import Masker, Words
from dstack_runner.metrics import MetricsTail
from dstack_runner.outcome import Outcome, StepFailed, failure_of, judge
from dstack_runner.reports import Reporter
from dstack_runner.server import Server, bearer
from dstack_runner.spool import Spool
from dstack_runner.steps import checkout, cleanup, commands, environment, inputs, outputs

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Step:
    """`always` runs also after a failure: a job that failed may have artifacts worth keeping."""

    name: str
    state: AttemptState
    run: Callable[[Attempt], None]
    always: bool = False


STEPS = (
    Step("checkout", AttemptState.PREPARING, checkout.run),
    Step("inputs", AttemptState.PREPARING, inputs.run),
    Step("environment", AttemptState.PREPARING, environment.run),
    Step("commands", AttemptState.RUNNING, commands.run),
    Step("outputs", AttemptState.SAVING, outputs.run, always=True),
)


def carry_out(attempt: Attempt, say: Callable[[StateReport], None], steps: tuple[Step, ...] = STEPS) -> Outcome:
    """Run the steps in order; how the attempt ended."""
    failure: StepFailed | None = None
    for step in steps:
        if failure is not None and not step.always:
            continue
        if attempt.control.lost.is_set():
            break
        say(StateReport(step.state, step.name))
        found = _run(step, attempt)
        failure = failure or found
    return judge(failure, attempt.control.stop, attempt.exit_code)


def _run(step: Step, attempt: Attempt) -> StepFailed | None:
    try:
        step.run(attempt)
    except Stopped as error:
        return failure_of(step.name, error)
    except LeaseLost:
        attempt.control.request(lost(attempt.order.attempt))
        return StepFailed("the lease is lost", reason=Reason.RUNNER_LOST)
    except (DstackError, OSError) as error:
        failure = failure_of(step.name, error)
        _tell(attempt, failure)
        return failure
    except Exception as error:
        log.exception("attempt %s: step %s broke", attempt.order.attempt, step.name)
        failure = failure_of(step.name, error)
        _tell(attempt, failure)
        return failure
    return None


def _tell(attempt: Attempt, failure: StepFailed) -> None:
    if attempt.control.stop is None:
        attempt.log.say(f"failed: {failure.message}")


def lost(attempt: str) -> Stop:
    return Stop(attempt, Reason.RUNNER_LOST, 0, lost=True)


class Execution:
    """One accepted order. `run` returns when the server has acknowledged its end, or the lease is gone."""

    def __init__(
        self, order: Order, lease: str, kit: Kit, server: Server, control: Control, spools: Path, user: JobUser | None
    ) -> None:
        self._order = order
        self._lease = lease
        self._kit = kit
        self._server = server
        self._control = control
        self._user = user
        self._api = HttpContent(server.url, order.attempt, lambda: {**bearer(server.token), LEASE_HEADER: lease})
        self._spool = Spool(spools / f"{order.attempt}.log")
        self._words = Words(order.secrets.values())
        self._log = JobLog(self._spool, LogWriter(Masker(order.secrets.values()), self._spool))
        self._sender = LogSender(_Watched(self._api, self._lose), self._spool, on_wait=say_waiting)
        self._tail_guard = threading.Lock()

    def run(self) -> None:
        self._sender.start()
        attempt, reporter, tail = None, None, None
        try:
            attempt = self._attempt()
            tail = MetricsTail(attempt.places.metrics)
            reporter = self._reporter(tail)
            outcome = carry_out(attempt, reporter.say)
            last = self._collect(tail, last=True)
            self._complain(tail)
        except OSError as error:
            last = ()
            failure = failure_of("checkout", error)
            outcome = judge(failure, self._control.stop, None)
        finally:
            if attempt is not None:
                cleanup.run(attempt)
        if reporter is not None:
            reporter.close(last)
        self._finish(attempt, outcome)

    def _attempt(self) -> Attempt:
        places = Places(self._kit.workspaces.attempt_folder(self._order.attempt))
        attempt = Attempt(
            self._order, self._lease, self._kit, places, self._control, self._log, self._spool.path,
            Artifacts(self._api, self._kit.blobs, self._control, self._log.say, self._words.show), self._user,
        )  # fmt: skip
        for folder in (places.home, places.tmp, places.out):
            folder.mkdir(mode=0o700)
            attempt.own(folder)
        return attempt

    def _reporter(self, tail: MetricsTail) -> Reporter:
        return Reporter(
            self._server.another(), self._order.attempt, self._lease,
            collect=lambda: self._collect(tail), on_lost=self._lose, give_up=self._control.lost,
        )  # fmt: skip

    def _collect(self, tail: MetricsTail, *, last: bool = False) -> tuple[MetricPoint, ...]:
        with self._tail_guard:
            points = tail.collect(time.time(), last=last)
        return tuple(replace(point, name=self._words.show(point.name)) for point in points)

    def _complain(self, tail: MetricsTail) -> None:
        for problem in tail.problems:
            self._log.say(f"metrics: {problem}")

    def _lose(self) -> None:
        self._control.request(lost(self._order.attempt))

    def _drain(self) -> None:
        """Wait until the server has the whole log, however long it is away, or will not take it."""
        while not self._sender.drain(0.5) and self._sender.error is None and not self._control.lost.is_set():
            pass
        self._sender.stop()
        if self._sender.error is not None:
            log.warning("attempt %s: its log is not whole: %s", self._order.attempt, self._sender.error.message)

    def _finish(self, attempt: Attempt | None, outcome: Outcome) -> None:
        log_bytes = self._log.finish()
        self._drain()
        if not self._control.lost.is_set():
            finish = Finish(
                state=outcome.state,
                reason=outcome.reason,
                message=self._words.show(outcome.message),
                exit_code=outcome.exit_code,
                metrics={self._words.show(k): v for k, v in attempt.metrics.items()} if attempt else {},
                report=self._words.show(attempt.report) if attempt else "",
                jobs=self._words.show(attempt.jobs) if attempt else "",
                log_bytes=log_bytes,
                machine_fault=outcome.machine_fault,
            )
            send_finish(self._server, self._order.attempt, self._lease, finish, self._control.lost)
        self._api.close()
        self._spool.remove()


class _Watched:
    """The log's way to the server, telling at once when it hears that the lease is gone."""

    def __init__(self, api: LogApi, on_lost: Callable[[], None]) -> None:
        self._api = api
        self._on_lost = on_lost

    def put_log(self, offset: int, data: bytes) -> int:
        try:
            return self._api.put_log(offset, data)
        except LeaseLost:
            self._on_lost()
            raise
