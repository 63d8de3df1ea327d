"""What pages say: times, sizes, numbers, and a sentence for every reason the server knows."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest

from dstack.server.web.render import words
from dstack.server.web.render.words import Delta, age, delta, duration, explain, number, seconds_between, size
from dstack.wire.states import AttemptState, JobState, Reason, Verdict

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "\u2013"), (0, "0.0 s"), (0.44, "0.4 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.4, "59 s"),
        (59.6, "1 m 00 s"),
        (185, "3 m 05 s"), (3599, "59 m 59 s"), (3600, "1 h 00 m"), (7620, "2 h 07 m"), (86399, "23 h 59 m"),
        (86400, "1 d 00 h"), (100 * 86400, "100 d 00 h"),
    ],
)  # fmt: skip
def test_durations(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (None, "never"), ("", "never"), ("nonsense", "never"), ("2026-03-01T11:59:55+00:00", "just now"),
        ("2026-03-01T12:00:30Z", "just now"),
        ("2026-03-01T11:59:00Z", "1 minute ago"), ("2026-03-01T10:00:00", "2 hours ago"),
        ("2026-03-01T12:30:00+02:00", "1 hour ago"),
        ("2026-02-20T12:00:00Z", "9 days ago"), ("2026-01-05T12:00:00Z", "5 Jan 2026"),
    ],
)  # fmt: skip
def test_ages(at: str | None, text: str) -> None:
    assert age(at, NOW) == text


def test_seconds_between() -> None:
    start, end = "2026-03-01T11:00:00Z", "2026-03-01T11:00:30Z"
    assert seconds_between(start, end, NOW) == 30
    assert seconds_between(start, None, NOW) == 3600
    assert seconds_between(None, end, NOW) is None
    assert seconds_between(end, start, NOW) == 0  # clocks disagree


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 KiB"), (1536, "1.5 KiB"), (48_331_112, "46.1 MiB"), (10**15, "909 TiB")],
)
def test_sizes(count: int, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.95213, "0.9521"), (0.5, "0.5"), (3.0, "3"), (61706.0, "61\u202f706"), (-0.25, "\u22120.25"),
        (-3.0, "\u22123"),
        (1234.567, "1\u202f235"), (12.3456, "12.35"), (0.00012345, "0.0001234"), (3.2e-7, "3.200e-7"),
        (1.5e12, "1.500e12"),
        (math.nan, "NaN"), (math.inf, "∞"), (-math.inf, "\u2212∞"), (0.99999, "1"), (0.0, "0"),
    ],
)  # fmt: skip
def test_numbers(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "previous", "better", "expected"),
    [
        (0.95, 0.9, "higher", Delta("+0.05", "up", "good")),
        (0.9, 0.95, "higher", Delta("\u22120.05", "down", "bad")),
        (0.9, 0.95, "lower", Delta("\u22120.05", "down", "good")),
        (0.95, 0.9, "lower", Delta("+0.05", "up", "bad")),
        (0.95, 0.9, "", Delta("+0.05", "up", "quiet")),
        (1.0, 1.0, "higher", Delta("no change", "same", "quiet")),
        (1.0, None, "higher", None),
        (math.nan, 1.0, "higher", None),
    ],
)
def test_deltas(value: float, previous: float | None, better: str, expected: Delta | None) -> None:
    assert delta(value, previous, better) == expected


def test_every_reason_is_a_sentence() -> None:
    for reason in Reason:
        told = explain("failed", reason.value)
        assert told.text.endswith(".") and "_" not in told.text


def test_every_state_and_verdict_has_a_look() -> None:
    for state in (*JobState, *AttemptState):
        assert words.mark(state.value) is words.MARKS[state.value]
    for verdict in Verdict:
        assert words.verdict_mark(verdict.value) is words.VERDICTS[verdict.value]
    assert words.mark("from_the_future").word == "From the future"


@pytest.mark.parametrize(
    ("state", "reason", "message", "code", "text"),
    [
        ("succeeded", "", "", 0, ""),
        ("running", "", "", None, ""),
        ("waiting", "", "", None, "It waits for the runs it needs."),
        ("queued", "", "", None, "It waits for a free runner."),
        ("queued", "needs 4 GPUs; the largest runner has 1", "", None, "Needs 4 GPUs; the largest runner has 1."),
        ("waiting", "waits for train (calm-heron-3)", "", None, "Waits for train (calm-heron-3)"),
        ("failed", "exit_code", "", 1, "A command ended with exit code 1."),
        ("failed", "exit_code", "", 137, "A command ended with exit code 137 (SIGKILL)."),
        ("failed", "exit_code", "", -11, "A command ended with exit code -11 (SIGSEGV)."),
        ("failed", "exit_code", "", None, "A command ended with an error."),
        ("failed", "exit_code", "make all; false: exit code 2", 2, "`make all; false` ended with exit code 2."),
        ("failed", "exit_code", "x `y`: exit code 2", 2, "A command ended with exit code 2: x `y`: exit code 2."),
        ("failed", "exit_code", "No module named 'x'", 1, "A command ended with exit code 1: No module named 'x'."),
        ("failed", "no_such_tag: prepare:latest", "", None, "A tag it depends on does not exist: prepare:latest."),
        ("failed", "inputs", "clash with data/x", None, "An input could not be mounted: clash with data/x."),
        ("failed", "", "the disk burns", None, "The disk burns."),
    ],
)
def test_why(state: str, reason: str, message: str, code: int | None, text: str) -> None:
    assert explain(state, reason, message=message, exit_code=code).text == text


def test_backticks_become_code_and_nothing_else_does() -> None:
    assert words.with_code("try `a <b>` & go") == "try <code>a &lt;b&gt;</code> &amp; go"
    assert words.with_code("lone ` <tick>") == "lone ` &lt;tick&gt;"
