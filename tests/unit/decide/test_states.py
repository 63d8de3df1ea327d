"""The state machine of a job, and the fold of runs and groups."""

import re
from pathlib import Path

import pytest

from dstack.errors import Conflict
from dstack.server.decide.states import SEVERITY, TRANSITIONS, Event, fold, next_state
from dstack.wire.states import FINAL_STATES, JobState

W, Q, P, R, S = JobState.WAITING, JobState.QUEUED, JobState.PREPARING, JobState.RUNNING, JobState.SAVING
OK, FAILED, STOPPED, SKIPPED = JobState.SUCCEEDED, JobState.FAILED, JobState.STOPPED, JobState.SKIPPED


def test_the_usual_life() -> None:
    state = W
    for event in (Event.RELEASE, Event.OFFER, Event.ACCEPT, Event.START, Event.SAVE, Event.SUCCEED):
        state = next_state(state, event)
    assert state is OK


def test_final_states_are_left_by_nothing() -> None:
    for state in FINAL_STATES:
        for event in Event:
            with pytest.raises(Conflict):
                next_state(state, event)


def test_every_state_but_the_ends_can_be_stopped() -> None:
    for state in set(JobState) - FINAL_STATES:
        assert next_state(state, Event.STOP) is STOPPED


def test_every_state_is_reached_from_waiting_and_every_event_is_used() -> None:
    reached = {W}
    while grown := {to for (state, _), to in TRANSITIONS.items() if state in reached} - reached:
        reached |= grown
    assert reached == set(JobState)
    assert {event for _, event in TRANSITIONS} == set(Event)


@pytest.mark.parametrize(
    ("children", "state"),
    [
        ([], SKIPPED),
        ([OK], OK),
        ([OK, OK], OK),
        ([OK, FAILED], FAILED),
        ([STOPPED, FAILED], FAILED),
        ([STOPPED, OK], STOPPED),
        ([SKIPPED, OK], OK),
        ([SKIPPED, SKIPPED], SKIPPED),
        ([OK, Q], Q),
        ([FAILED, R], R),
        ([W, Q], Q),
        ([Q, R], R),
        ([P, S], S),
        ([JobState.OFFERED, Q], JobState.OFFERED),
    ],
)
def test_a_parent_is_the_fold_of_its_children(children: list[JobState], state: JobState) -> None:
    assert fold(children) is state
    assert fold(reversed(children)) is state


def test_the_severity_list_has_every_state_once() -> None:
    assert sorted(SEVERITY) == sorted(JobState)


def test_the_drawing_in_the_readme_is_the_table() -> None:
    readme = (Path(__file__).parents[3] / "README.md").read_text()
    drawing = re.search(r"```mermaid\nstateDiagram-v2\n(.*?)```", readme, re.DOTALL)
    assert drawing is not None
    drawn: set[tuple[str, str, str]] = set()
    for line in drawing.group(1).splitlines():
        state, to, events = re.fullmatch(r" +(\w+) --> (\w+): (.*)", line).groups()  # type: ignore[union-attr]
        drawn |= {(state, event, to) for event in events.split(", ")}
    assert drawn == {(state.value, event.value, to.value) for (state, event), to in TRANSITIONS.items()}
