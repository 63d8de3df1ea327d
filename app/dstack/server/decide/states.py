"""The state machine of a job, as one table, and the fold that gives runs and groups their state."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from dstack.errors import Conflict
from dstack.wire.states import FINAL_STATES, LIVE_STATES, JobState


class Event(StrEnum):
    """What can happen to a job."""

    RELEASE = "release"  # all runs it needs have succeeded
    OFFER = "offer"  # a runner was chosen
    WITHDRAW = "withdraw"  # the offer ran out or was refused
    ACCEPT = "accept"  # the runner took it: an attempt lives
    START = "start"  # its commands run
    SAVE = "save"  # its outputs are being stored
    SUCCEED = "succeed"
    FAIL = "fail"
    STOP = "stop"
    SKIP = "skip"
    REQUEUE = "requeue"  # the machine failed it and its retries last


TRANSITIONS: dict[tuple[JobState, Event], JobState] = {
    (JobState.WAITING, Event.RELEASE): JobState.QUEUED,
    (JobState.WAITING, Event.FAIL): JobState.FAILED,
    (JobState.WAITING, Event.STOP): JobState.STOPPED,
    (JobState.WAITING, Event.SKIP): JobState.SKIPPED,
    (JobState.QUEUED, Event.OFFER): JobState.OFFERED,
    (JobState.QUEUED, Event.FAIL): JobState.FAILED,
    (JobState.QUEUED, Event.STOP): JobState.STOPPED,
    (JobState.QUEUED, Event.SKIP): JobState.SKIPPED,
    (JobState.OFFERED, Event.ACCEPT): JobState.PREPARING,
    (JobState.OFFERED, Event.WITHDRAW): JobState.QUEUED,
    (JobState.OFFERED, Event.STOP): JobState.STOPPED,
    (JobState.OFFERED, Event.FAIL): JobState.FAILED,
    (JobState.PREPARING, Event.START): JobState.RUNNING,
    (JobState.PREPARING, Event.SAVE): JobState.SAVING,
    (JobState.RUNNING, Event.SAVE): JobState.SAVING,
} | {
    (live, event): state
    for live in LIVE_STATES
    for event, state in {
        Event.SUCCEED: JobState.SUCCEEDED,
        Event.FAIL: JobState.FAILED,
        Event.STOP: JobState.STOPPED,
        Event.REQUEUE: JobState.QUEUED,
    }.items()
}

# The first of these that any child is in is the parent's state. Live work outranks what waits; what waits outranks
# every end; of the ends, failure outranks a stop, and a stop outranks success.
SEVERITY = (
    JobState.RUNNING,
    JobState.SAVING,
    JobState.PREPARING,
    JobState.OFFERED,
    JobState.QUEUED,
    JobState.WAITING,
    JobState.FAILED,
    JobState.STOPPED,
    JobState.SUCCEEDED,
    JobState.SKIPPED,
)


def next_state(state: JobState, event: Event) -> JobState:
    """The state after `event`. Raises Conflict where the table has no such move."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise Conflict(f"a job that is {state.value} cannot {event.value}") from None


def fold(children: Iterable[JobState]) -> JobState:
    """A parent's state. Without children it is skipped: there was nothing to do."""
    present = set(children)
    return next((state for state in SEVERITY if state in present), JobState.SKIPPED)


def is_final(state: JobState) -> bool:
    return state in FINAL_STATES
