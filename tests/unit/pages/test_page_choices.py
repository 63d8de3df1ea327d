"""What addresses ask for, the order of runs, and whose log is shown first."""

from __future__ import annotations

import pytest

from dstack.errors import NotFound
from dstack.server.web.page_choices import choose_attempt, filter_query, in_groups, in_order
from dstack.server.web.render.models import AttemptData, RunData, RunFilter, RunRow
from dstack.wire.api import RunView


def row(name: str, group: str = "g", needs: tuple[str, ...] = (), at: str = "2026-01-01T00:00:00Z") -> RunRow:
    run = RunView(
        name, group, list(needs), "o/r", "w", "queued", "", "", "", "push", {}, {}, None, [], at, None, None, None
    )
    return RunRow(run)


def names(rows: list[RunRow]) -> list[str]:
    return [row.run.name for row in rows]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([], []),
        ([row("c", needs=("b",)), row("b", needs=("a",)), row("a")], ["a", "b", "c"]),
        ([row("d", needs=("b", "c")), row("c", needs=("a",)), row("b", needs=("a",)), row("a")], ["a", "b", "c", "d"]),
        ([row("b", needs=("elsewhere",)), row("a")], ["a", "b"]),
        ([row("late", at="2026-01-02T00:00:00Z"), row("early")], ["early", "late"]),
        ([row("x", needs=("y",)), row("y", needs=("x",))], ["y", "x"]),
    ],
)
def test_runs_stand_after_those_they_need(rows: list[RunRow], expected: list[str]) -> None:
    assert names(in_order(rows)) == expected


def test_a_group_is_cut_where_it_changes() -> None:
    rows = [row("a", "g2"), row("b", "g1"), row("c", "g1")]
    assert [names(group) for group in in_groups(rows)] == [["a"], ["c", "b"]]


def test_a_changed_filter_starts_at_the_newest_again() -> None:
    wanted = RunFilter(repo="o/r", branch="a&b", state="failed", cursor="123")
    assert filter_query(wanted, state="") == "/?repo=o%2Fr&branch=a%26b"
    assert filter_query(wanted, cursor="9") == "/?repo=o%2Fr&branch=a%26b&state=failed&cursor=9"
    assert filter_query(RunFilter()) == "/"


@pytest.mark.parametrize(
    ("states", "shown"),
    [
        ([], None),
        (["succeeded"], 0),
        (["succeeded", "succeeded"], 1),
        (["failed", "succeeded"], 0),
        (["lost", "running"], 1),
        (["running", "failed"], 0),
        (["lost", "failed", "succeeded"], 1),
        (["stopped"], 0),
        (["from_the_future"], 0),
    ],
)
def test_the_log_shown_first_is_of_what_runs_then_of_what_failed(states: list[str], shown: int | None) -> None:
    data = RunData(row("a"), attempts=[AttemptData(f"t{at}", "", 1, state) for at, state in enumerate(states)])
    chosen = choose_attempt(data, "")
    assert (chosen.id if chosen else None) == (f"t{shown}" if shown is not None else None)


def test_an_attempt_of_another_run_is_not_shown() -> None:
    with pytest.raises(NotFound):
        choose_attempt(RunData(row("a"), attempts=[AttemptData("t0", "", 1, "running")]), "t9")
