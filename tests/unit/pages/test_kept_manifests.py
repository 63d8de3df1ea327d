"""What is kept of large things read again and again, and that it stays bounded."""

from __future__ import annotations

import pytest

from dstack.server.web.manifests import Kept


class Made:
    """Counts what had to be made."""

    def __init__(self, most: int, *, keeps_latest: bool = False) -> None:
        self.names: list[str] = []
        self._kept: Kept[str] = Kept(len, most, keeps_latest=keeps_latest)

    def get(self, value: str) -> str:
        def make() -> str:
            self.names.append(value)
            return value

        return self._kept.get(value, make)


def test_what_is_kept_is_not_made_again() -> None:
    made = Made(10)
    assert [made.get(value) for value in ("aaa", "bbb", "aaa", "bbb")] == ["aaa", "bbb", "aaa", "bbb"]
    assert made.names == ["aaa", "bbb"]


def test_the_longest_unused_goes_first() -> None:
    made = Made(6)
    for value in ("aaa", "bbb", "aaa", "ccc", "aaa", "bbb"):
        made.get(value)
    assert made.names == ["aaa", "bbb", "ccc", "bbb"]


@pytest.mark.parametrize(("keeps_latest", "times"), [(False, 2), (True, 1)])
def test_one_that_is_too_large_is_kept_only_where_said(keeps_latest: bool, times: int) -> None:
    made = Made(6, keeps_latest=keeps_latest)
    for _ in range(2):
        assert made.get("x" * 100) == "x" * 100
    assert len(made.names) == times


def test_a_value_that_cannot_be_made_is_tried_again() -> None:
    kept: Kept[str] = Kept(len, 10)

    def fail() -> str:
        raise ValueError("gone")

    with pytest.raises(ValueError):
        kept.get("a", fail)
    assert kept.get("a", lambda: "a") == "a"
