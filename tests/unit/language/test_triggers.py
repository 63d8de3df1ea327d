"""Which workflows an event starts, and why."""

from __future__ import annotations

import pytest

from dstack.language import FILES, Event, read_project, select
from dstack.wire.states import Trigger

PUSH = Trigger.PUSH
NARROW = "paths: [src/**]\non: {push: {paths: ['**.py']}}"


def judge(keys: str, event: Event) -> tuple[bool, str]:
    text = "workflows:\n  - name: a\n    provider: bash\n    commands: ls\n" + "".join(
        f"    {k}\n" for k in keys.splitlines()
    )
    project = read_project({FILES[0]: text.encode()})
    assert not project.problems, project.problems
    (selection,) = select(project, event)
    return selection.starts, selection.why


@pytest.mark.parametrize(
    ("keys", "event", "starts", "why"),
    [
        ("", Event(PUSH, branch="any/branch"), True, "pushed to any/branch"),
        ("", Event(PUSH, tag="v1"), False, "names no tags"),
        ("on: push", Event(PUSH, branch="x"), True, "pushed to x"),
        ("on: manual", Event(PUSH, branch="main"), False, "no `on: push`"),
        ("on: {push: }", Event(PUSH, branch="x"), True, "pushed"),
        ("on: {push: {branches: [main]}}", Event(PUSH, branch="main"), True, "pushed to main"),
        ("on: {push: {branches: [main]}}", Event(PUSH, branch="dev"), False, "fits none of its branches (main)"),
        ("on: {push: {branches: ['**', '!wip/**']}}", Event(PUSH, branch="wip/x"), False, "wip/x"),
        ("on: {push: {tags: ['v*']}}", Event(PUSH, tag="v1"), True, "Git tag v1"),
        ("on: {push: {tags: ['v*']}}", Event(PUSH, tag="x"), False, "fits none of its tags"),
        ("on: {push: {tags: ['v*']}}", Event(PUSH, branch="main"), False, "Git tags only"),
        ("paths: [src/**]", Event(PUSH, branch="m", changed=("README",)), False, "nothing it reads has changed (src"),
        ("paths: [src/**]", Event(PUSH, branch="m", changed=("src/a", "src/b")), True, "src/a and 1 more changed"),
        ("paths: [src/**]", Event(PUSH, branch="m", changed=None), True, "pushed"),
        ("paths: [src/**]", Event(PUSH, branch="m", changed=()), False, "nothing it reads"),
        ("", Event(PUSH, branch="m", changed=()), True, "pushed"),
        (NARROW, Event(PUSH, branch="m", changed=("src/a.c", "x.py")), False, "no change fits"),
        (NARROW, Event(PUSH, branch="m", changed=("src/a.py",)), True, "src/a.py"),
        ("", Event(PUSH, branch="m", message="fix [skip ci]"), False, "[skip ci]"),
        ("", Event(PUSH, branch="m", message="fix [Skip dstack]\n"), False, "[Skip dstack]"),
        ("", Event(PUSH, branch="m", message="skip ci"), True, "pushed"),
        ("on: pull_request", Event(Trigger.PULL_REQUEST, branch="main"), True, "a pull request to main"),
        ("on: push", Event(Trigger.PULL_REQUEST, branch="main"), False, "no `on: pull_request`"),
        ("on: {pull-request: {branches: [main]}}", Event(Trigger.PULL_REQUEST, branch="x"), False, "goes to x"),
        ("on: {comment: /train}", Event(Trigger.COMMENT, message="/train --lr 1"), True, "asked for by /train"),
        ("on: {comment: /train}", Event(Trigger.COMMENT, message="/trainer"), False, "its command is /train"),
        ("on: {comment: /train}", Event(Trigger.COMMENT, message=""), False, "its command is /train"),
        ("on: {tag-moved: b:latest}", Event(Trigger.TAG_MOVED, tag_moved="b:latest"), True, "b:latest moved"),
        ("on: {tag-moved: o/r/b:v1}", Event(Trigger.TAG_MOVED, tag_moved="o/r/b:v1"), True, "moved"),
        ("on: {tag-moved: b:latest}", Event(Trigger.TAG_MOVED, tag_moved="b:v2"), False, "is b:latest"),
        ("on: push", Event(Trigger.TAG_MOVED, tag_moved="b:v2"), False, "no `on: tag-moved`"),
        ("on: {event: [drift, nightly]}", Event(Trigger.EVENT, event="nightly"), True, "nightly was posted"),
        ("on: {event: drift}", Event(Trigger.EVENT, event="x"), False, "is drift"),
        ("on: {schedule: '0 3 * * 1'}", Event(Trigger.SCHEDULE, workflow="a"), True, "its schedule"),
        ("on: push", Event(Trigger.SCHEDULE, workflow="a"), False, "no `on: schedule`"),
        ("on: manual", Event(Trigger.MANUAL, workflow="a"), True, "started by hand"),
        ("on: push", Event(Trigger.MANUAL, workflow="b"), False, "b was meant"),
    ],
)  # fmt: skip
def test_an_event_starts_what_asks_for_it(keys: str, event: Event, starts: bool, why: str) -> None:
    answer, said = judge(keys, event)
    assert answer is starts and why in said, said


def test_every_workflow_gets_an_answer_in_the_order_of_the_file() -> None:
    text = "workflows:\n" + "".join(f"  - {{name: w{n}, provider: bash, commands: x}}\n" for n in (3, 1, 2))
    project = read_project({FILES[0]: text.encode()})
    assert [s.workflow for s in select(project, Event(PUSH, branch="x"))] == ["w3", "w1", "w2"]


def test_a_trigger_on_the_own_paths_needs_no_git() -> None:
    starts, _ = judge("paths: ['**', '!docs/**']", Event(PUSH, branch="x", changed=("docs/a.md",)))
    assert not starts
