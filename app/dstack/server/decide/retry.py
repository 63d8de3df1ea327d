"""Whether an attempt that ended badly sends its job back to the queue."""

from __future__ import annotations

from dstack.server.decide.states import Event
from dstack.wire.job import Retry
from dstack.wire.states import AttemptState, Reason


def after_attempt(
    ended: AttemptState,
    reason: Reason | None,
    *,
    machine_fault: bool,
    stop_requested: bool,
    retry: Retry,
    retries: int,
) -> Event:
    """What happens to the job when its attempt ended.

    A job that was asked to stop stops, unless it had succeeded before the request reached it. A lost, preempted or
    machine-failed attempt requeues the job while `retries` is under the policy's limit; other failures only for
    reasons the policy names.
    """
    if ended is AttemptState.SUCCEEDED:
        return Event.SUCCEED
    if stop_requested or ended is AttemptState.STOPPED:
        return Event.STOP
    again = machine_fault or reason in retry.on
    return Event.REQUEUE if again and retries < retry.limit else Event.FAIL
