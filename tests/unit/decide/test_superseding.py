"""Which runs come back with their head, as a table."""

from __future__ import annotations

import pytest

from dstack.server.decide.superseding import Stand, gave_way_to_another_head, is_late

PUSH = Stand("a", "topic")
PULL = Stand("a", "topic", 7, "main")


@pytest.mark.parametrize(
    ("mine", "cause", "comes_back"),
    [
        (PULL, Stand("b", "topic", 7, "main"), True),  # a push to the pull request
        (PULL, Stand("a", "topic", 7, "dev"), True),  # it went to another base
        (PULL, Stand("b", "renamed", 7, "main"), True),
        (PULL, Stand("a", "topic", 8, "dev"), False),  # another pull request of the same head is still there
        (PULL, Stand("b", "other", 8, "main"), False),  # one of the same concurrency group
        (PULL, Stand("b", "topic"), True),  # the push of the next head, in one concurrency group with it
        (PULL, Stand("a", "topic"), False),  # the push of the same head
        (PUSH, Stand("b", "topic"), True),
        (PUSH, Stand("b", "topic", 7, "main"), True),
        (PUSH, Stand("a", "topic", 7, "main"), False),
        (PUSH, Stand("a", "topic"), False),  # the same commit, by hand
        (PUSH, Stand("b", "other"), False),
        (Stand("a", ""), Stand("b", ""), False),  # tags are no line
    ],
)
def test_what_gave_way_to_another_head_comes_back(mine: Stand, cause: Stand, comes_back: bool) -> None:
    assert gave_way_to_another_head(mine, cause) is comes_back


@pytest.mark.parametrize(("present", "late"), [("a", False), ("b", True), (None, False)])
def test_news_are_late_where_the_branch_has_gone_on(present: str | None, late: bool) -> None:
    assert is_late("a", present) is late
