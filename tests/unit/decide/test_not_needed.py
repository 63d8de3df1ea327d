"""For which workflows an event answers that it did not start them."""

from __future__ import annotations

import pytest

from dstack.language import FILES, Event, read_project, select
from dstack.server.decide.not_needed import after_merge_group, after_pull_request, after_push
from dstack.wire.states import Trigger

# Name says the trigger; none of the filters lets anything through.
FILE = """
workflows:
  - {name: push, provider: bash, commands: x, on: {push: {branches: [none]}}}
  - {name: pull, provider: bash, commands: x, on: {pull_request: {branches: [none]}}}
  - {name: both, provider: bash, commands: x, on: {push: {branches: [none]}, pull_request: {branches: [none]}}}
  - {name: cron, provider: bash, commands: x, on: {schedule: '0 3 * * 1'}}
  - {name: hand, provider: bash, commands: x, on: manual}
  - {name: runs, provider: bash, commands: x, on: [push, pull_request]}
"""
PROJECT = read_project({FILES[0]: FILE.encode()})
PUSHED = select(PROJECT, Event(Trigger.PUSH, branch="main"))
PULLED = select(PROJECT, Event(Trigger.PULL_REQUEST, branch="main"))


def test_the_file_is_as_it_should_be() -> None:
    assert not PROJECT.problems and [s.workflow for s in PUSHED if s.starts] == ["runs"]


@pytest.mark.parametrize(("on_default", "answered"), [(True, {"push", "both"}), (False, {"push"})])
def test_after_a_push(on_default: bool, answered: set[str]) -> None:
    assert set(after_push(PROJECT, PUSHED, on_default_branch=on_default)) == answered


@pytest.mark.parametrize(("fork", "answered"), [(False, {"pull", "both"}), (True, {"pull", "both", "push"})])
def test_after_a_pull_request(fork: bool, answered: set[str]) -> None:
    """A push of the same commit answers for those of pushes, but for forks there is none."""
    assert set(after_pull_request(PROJECT, PULLED, is_fork=fork)) == answered


def test_after_a_merge_group() -> None:
    assert set(after_merge_group(PROJECT, PULLED)) == {"push", "pull", "both"}


def test_each_is_told_why() -> None:
    why = after_push(PROJECT, PUSHED, on_default_branch=False)
    assert why == {"push": "the branch main fits none of its branches (none)"}
