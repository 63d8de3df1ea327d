"""Whether an attempt that ended badly sends its job back to the queue."""

import pytest

from dstack.server.decide.retry import after_attempt
from dstack.server.decide.states import Event
from dstack.wire.job import Retry
from dstack.wire.states import AttemptState, Reason

A, R = AttemptState, Reason


@pytest.mark.parametrize(
    ("ended", "reason", "fault", "stop", "retry", "retries", "event"),
    [
        (A.SUCCEEDED, None, False, False, Retry(), 0, Event.SUCCEED),
        (A.SUCCEEDED, None, False, True, Retry(), 0, Event.SUCCEED),  # it had succeeded before the stop reached it
        (A.FAILED, R.EXIT_CODE, False, False, Retry(), 0, Event.FAIL),
        (A.FAILED, R.EXIT_CODE, False, False, Retry((R.EXIT_CODE,), 1), 0, Event.REQUEUE),
        (A.FAILED, R.EXIT_CODE, False, False, Retry((R.EXIT_CODE,), 1), 1, Event.FAIL),
        (A.LOST, R.RUNNER_LOST, True, False, Retry(), 0, Event.REQUEUE),
        (A.LOST, R.RUNNER_LOST, True, False, Retry(), 1, Event.REQUEUE),
        (A.LOST, R.RUNNER_LOST, True, False, Retry(), 2, Event.FAIL),
        (A.LOST, R.RUNNER_LOST, True, True, Retry(), 0, Event.STOP),
        (A.PREEMPTED, R.PREEMPTED, False, False, Retry(), 0, Event.REQUEUE),
        (A.FAILED, R.CHECKOUT, True, False, Retry(), 0, Event.REQUEUE),
        (A.FAILED, R.CHECKOUT, False, False, Retry(), 0, Event.FAIL),  # the commit is missing: no use
        (A.FAILED, R.DISK_FULL, True, False, Retry(limit=0), 0, Event.FAIL),
        (A.FAILED, R.EXIT_CODE, False, True, Retry(), 0, Event.STOP),
        (A.STOPPED, R.CANCELED_BY, False, True, Retry(), 0, Event.STOP),
    ],
)
def test_after_attempt(
    ended: AttemptState, reason: Reason | None, fault: bool, stop: bool, retry: Retry, retries: int, event: Event
) -> None:
    assert after_attempt(ended, reason, machine_fault=fault, stop_requested=stop, retry=retry, retries=retries) is event
