"""What pull requests start, and the patterns that say what does not count (GitHub Actions' rules)."""

from __future__ import annotations

import pytest

from dstack.language import FILES, Event, read_project, select
from dstack.language.workflow import PULL_REQUEST_TYPES
from dstack.wire.states import Trigger

PUSH, PULL = Trigger.PUSH, Trigger.PULL_REQUEST
DOCS = ("docs/a.md", "README.md")
IGNORING = "on: {push: {paths-ignore: ['docs/**', '*.md']}}"
TYPES = "on: {pull_request: {types: [opened, synchronize]}}"
DRAFTS = "on: {pull_request: {drafts: true}}"


def judge(keys: str, event: Event) -> tuple[bool, str]:
    text = f"workflows:\n  - name: a\n    provider: bash\n    commands: ls\n    {keys}\n"
    project = read_project({FILES[0]: text.encode()})
    assert not project.problems, project.problems
    (selection,) = select(project, event)
    return selection.starts, selection.why


@pytest.mark.parametrize(
    ("keys", "event", "starts", "why"),
    [
        ("on: {push: {branches-ignore: ['wip/**']}}", Event(PUSH, branch="wip/x"), False, "is one it ignores (wip/**)"),
        ("on: {push: {branches-ignore: ['wip/**']}}", Event(PUSH, branch="main"), True, "pushed to main"),
        ("on: {push: {branches-ignore: ['wip/**']}}", Event(PUSH, tag="v1"), False, "names no tags"),
        ("on: {push: {tags-ignore: ['v*']}}", Event(PUSH, tag="v1"), False, "the Git tag v1 is one it ignores"),
        ("on: {push: {tags-ignore: ['v*']}}", Event(PUSH, tag="x"), True, "the Git tag x"),
        ("on: {push: {tags-ignore: ['v*']}}", Event(PUSH, branch="main"), False, "Git tags only"),
        ("on: {push: {tags-ignore: ['v*'], branches: [main]}}", Event(PUSH, branch="main"), True, "pushed"),
        (IGNORING, Event(PUSH, branch="m", changed=DOCS), False, "nothing but what it ignores has changed"),
        (IGNORING, Event(PUSH, branch="m", changed=(*DOCS, "a.py")), True, "a.py changed"),
        (IGNORING, Event(PUSH, branch="m", changed=None), True, "pushed"),
        ("on: {pull_request: {branches-ignore: [dev]}}", Event(PULL, branch="dev"), False, "goes to dev, which it"),
        ("on: {pull_request: {paths-ignore: ['*.md']}}", Event(PULL, branch="m", changed=("a.md",)), False, "ignores"),
        ("on: pull_request", Event(PULL, branch="main", is_draft=True), False, "the pull request is a draft"),
        (DRAFTS, Event(PULL, branch="main", is_draft=True), True, "a pull request to main"),
        *(("on: pull_request", Event(PULL, branch="main", action=a), True, "a pull") for a in PULL_REQUEST_TYPES),
        ("on: pull_request", Event(PULL, branch="main", action="labeled"), False, "labeled is none of its types"),
        (TYPES, Event(PULL, branch="main", action="synchronize"), True, "a pull"),
        (TYPES, Event(PULL, branch="main", action="reopened"), False, "reopened is none of its types (opened, sync"),
        (TYPES, Event(PULL, branch="main"), True, "a pull"),
        # It had to wait for the end of the draft: it must not wait for ever.
        (TYPES, Event(PULL, branch="main", action="ready_for_review"), True, "a pull"),
        ("on: {pull_request: {types: opened, drafts: true}}", Event(PULL, action="ready_for_review"), False, "none of"),
    ],
)  # fmt: skip
def test_what_starts(keys: str, event: Event, starts: bool, why: str) -> None:
    answer, said = judge(keys, event)
    assert answer is starts and why in said, said


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("on: {push: {branches: [a], branches-ignore: [b]}}", '"branches" and "branches-ignore" exclude each other'),
        ("on: {push: {tags: [a], tags_ignore: [b]}}", '"tags" and "tags-ignore" exclude each other'),
        ("on: {pull_request: {paths: [a], paths-ignore: [b]}}", '"paths" and "paths-ignore" exclude each other'),
        ("on: {pull_request: {types: [closed]}}", "one of opened, synchronize, reopened, ready_for_review"),
        ("on: {pull_request: {drafts: maybe}}", "true or false"),
        ("on: {push: {drafts: true}}", 'unknown key "drafts"'),
        ("on: {pull_request: {tags-ignore: [a]}}", 'unknown key "tags-ignore"'),
    ],
)
def test_what_is_refused(keys: str, said: str) -> None:
    text = f"workflows:\n  - name: a\n    provider: bash\n    commands: ls\n    {keys}\n"
    problems = read_project({FILES[0]: text.encode()}).problems
    assert len(problems) == 1 and said in str(problems[0]), problems
