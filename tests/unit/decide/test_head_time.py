"""Since when a pull request has its head, where comments make it younger and news of pushes come late."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dstack.server.decide.head_time import head_since
from dstack.server.gateways.forge_facts import PullFacts


@pytest.mark.parametrize(
    ("heard_until", "pushed_at", "updated_at", "since"),
    [
        (0, 100, 100, 100),  # the first news of it
        (0, 100, 130, 100),  # somebody commented since
        (50, 100, 130, 100),
        (100, 100, 130, 130),  # that push is of the head before: the forge does not tell yet of the one that moved it
        (120, 100, 130, 130),
        (50, 140, 130, 130),  # another branch was pushed since
        (50, 0, 130, 130),  # the fork is gone
    ],
)
def test_since_when(heard_until: float, pushed_at: float, updated_at: float, since: float) -> None:
    facts = PullFacts(
        7, "t", "ada", "a" * 40, "topic", "acme/vision", False, "main", "b" * 40, False, True, updated_at, pushed_at
    )
    assert head_since(facts, heard_until) == since


@pytest.mark.parametrize(
    ("sha", "told_at", "since"),
    [
        ("a", 100, 100),  # opened and pushed within a second, and commented since
        ("a", 90, 130),  # it may have had another head in between
        ("c", 100, 130),  # what was told of is its head no more
    ],
)
def test_since_when_where_the_forge_was_asked_which_news_hold(sha: str, told_at: float, since: float) -> None:
    asked = PullFacts(7, "t", "ada", "a" * 40, "topic", "acme/vision", False, "main", "b" * 40, False, True, 130, 100)
    assert head_since(asked, 100, replace(asked, head_sha=sha * 40, updated_at=told_at)) == since
