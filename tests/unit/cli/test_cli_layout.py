"""Tables, sizes, times and terminals, by tables."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dstack.cli import progress, quantities, table, terminal
from dstack.cli.logtext import TerminalFilter

NOW = datetime(2026, 5, 4, 12, 0, 0, tzinfo=UTC)


@given(st.lists(st.lists(st.text(max_size=30), min_size=3, max_size=3), max_size=5), st.integers(20, 90))
def test_no_line_is_wider_than_the_terminal(rows: list[list[str]], width: int) -> None:
    for cells in table.lay_out(["NAME", "STATE", "A LONG HEADER"], rows, width):
        line = (" " * table.GAP).join(cells)
        assert table.columns(line) <= width and "\n" not in line


def test_columns_align_and_the_widest_but_the_first_gives_way() -> None:
    laid = table.lay_out(["A", "B", "C"], [["calm-fox-1", "x" * 30, "one"], ["y", "z", "two"]], 30)
    assert ["  ".join(cells) for cells in laid] == [
        "A           B              C",
        "calm-fox-1  xxxxxxxxxxxx…  one",
        "y           z              two",
    ]
    assert table.lay_out(["N"], [["漢字漢字"]], 5) == [["N"], ["漢字…"]]


@pytest.mark.parametrize(
    ("widths", "width", "fitted"),
    [
        ([10, 5, 5], 30, [10, 5, 5]),
        ([10, 20, 5], 30, [10, 11, 5]),
        ([10, 20, 20], 30, [10, 8, 8]),
        ([10, 20, 20], 29, [10, 17]),
        ([30, 20], 20, [20]),
    ],
)
def test_fit_widths(widths: list[int], width: int, fitted: list[int]) -> None:
    assert table.fit_widths(widths, width) == fitted


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KB"), (1536 * 1024, "1.5 MB"), (200 * 1024**3, "200 GB")],
)
def test_size(count: int, text: str) -> None:
    assert quantities.size(count) == text


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("4096", 4096),
        ("1KB", 1024),
        ("1.5 GiB", 1536 * 1024**2),
        ("200m", 200 * 1024**2),
        ("", None),
        ("x", None),
        ("1.2.3MB", None),
        ("-1", None),
        (".", None),
        ("1XB", None),
    ],
)
def test_parse_size(text: str, count: int | None) -> None:
    assert quantities.parse_size(text) == count


@pytest.mark.parametrize(
    ("time", "text"),
    [
        ("2026-05-04T11:59:59Z", "now"),
        ("2026-05-04T11:59:00+00:00", "60 s ago"),
        ("2026-05-04T11:00:00", "60 min ago"),
        ("2026-05-03T12:00:00Z", "24 h ago"),
        ("2026-04-20T12:00:00Z", "14 d ago"),
        ("2025-01-01T00:00:00Z", "2025-01-01"),
        ("2999-01-01T00:00:00Z", "now"),
        ("nonsense", ""),
        (None, ""),
    ],
)
def test_ago(time: str | None, text: str) -> None:
    assert quantities.ago(time, NOW) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0s"), (9.96, "10.0s"), (59, "59s"), (185, "3m 05s"), (7800, "2h 10m"), (1e6, "11d 13h")],
)
def test_duration(seconds: float, text: str) -> None:
    assert quantities.duration(seconds) == text


@pytest.mark.parametrize(("value", "text"), [(3.0, "3"), (0.95312, "0.9531"), (float("nan"), "nan"), (1e300, "1e+300")])
def test_number(value: float, text: str) -> None:
    assert quantities.number(value) == text


@pytest.mark.parametrize(
    ("env", "is_tty", "wanted"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, True, False),
        ({"NO_COLOR": ""}, True, True),
        ({"FORCE_COLOR": "1"}, False, True),
        ({"FORCE_COLOR": "0"}, False, False),
        ({"CLICOLOR_FORCE": "1"}, False, True),
        ({"TERM": "dumb"}, True, False),
    ],
)
def test_colour(env: dict[str, str], is_tty: bool, wanted: bool) -> None:
    assert terminal.wants_colour(env, is_tty=is_tty) is wanted


def test_progress_line_fits() -> None:
    assert progress.line("downloading", 50, 100, 80) == "downloading [============            ]  50 % of 100 B"
    assert len(progress.line("downloading", 1, 3, 15)) <= 15


HOSTILE = (
    "\x1b[31mred\x1b[0m \x1b]0;title\x07\x1b]52;c;ZXZpbA==\x1b\\\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\"
    "\x1b[2J\x1b[10;10H\x1bcé漢\u202eback\rover\n\x9b5A\x07end"
)
SAFE = "\x1b[31mred\x1b[0m linké漢back\rover\n5Aend"


@given(st.lists(st.integers(0, len(HOSTILE.encode())), max_size=6))
def test_a_log_on_a_terminal_keeps_colours_alone_in_any_cuts(cuts: list[int]) -> None:
    data, out, start = HOSTILE.encode(), "", 0
    filtered = TerminalFilter()
    for cut in [*sorted(cuts), len(data)]:
        out += filtered.feed(data[start:cut])
        start = cut
    assert out + filtered.feed(b"", final=True) == SAFE


@given(st.text(st.sampled_from("\x1b[]m;0a\\\x07P(\n"), max_size=40), st.integers(0, 40))
def test_no_escape_but_colours_ever_comes_out(text: str, cut: int) -> None:
    filtered = TerminalFilter()
    data = text.encode()
    out = filtered.feed(data[:cut]) + filtered.feed(data[cut:]) + filtered.feed(b"", final=True)
    assert "\x1b" not in re.sub(r"\x1b\[[0-9;:]*m", "", out)
