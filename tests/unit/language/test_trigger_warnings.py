"""What `dstack lint` says of triggers that start nothing, or leave later commits green."""

from __future__ import annotations

import pytest

from dstack.language.read_project import read_project

LATER = 'later commits of a pull request start nothing, and their status is the green "not needed"'
NOTHING = "it starts nothing by itself"


def said_of(on: str) -> list[str]:
    text = f"workflows:\n  - {{name: train, provider: bash, commands: ls, on: {on}}}\n"
    project = read_project({".dstack/workflows.yaml": text.encode()})
    assert project.problems == ()
    return [str(warning) for warning in project.warnings]


@pytest.mark.parametrize(
    "on",
    ["[]", "manual", "push", "[push, pull_request]", "{comment: /train}",
     "{pull_request: {types: [opened, synchronize]}}",
     "{pull_request: {drafts: true}}", "{push: , pull_request: {types: [opened]}}"],
)  # fmt: skip
def test_nothing_is_said_of_what_may_be_meant(on: str) -> None:
    assert said_of(on) == []


@pytest.mark.parametrize(
    ("on", "said"),
    [
        ("{}", f"train.on: {NOTHING}; write `on: manual`"),
        ("{event: []}", f"train.on: {NOTHING}"),
        ("{pull_request: {types: []}}", "train.on.pull_request.types: there are none: only the end of a draft starts"),
        ("{pull_request: {types: [], drafts: true}}", "there are none: nothing starts it"),
        ("{pull_request: {types: [opened]}}", f"train.on.pull_request.types: {LATER}; add synchronize"),
        ("{pull_request: {types: [reopened, ready_for_review]}}", LATER),
        ("{push: {branches: [main]}, pull_request: {types: [opened]}}", LATER),
    ],
)
def test_what_is_said(on: str, said: str) -> None:
    (warning,) = said_of(on)
    assert warning.startswith(".dstack/workflows.yaml:2:49: ") and said in warning
