"""Due times of schedules, also where the clock is changed."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dstack.server.decide.due import judge_due, next_due

BERLIN, CAIRO, LORD_HOWE = "Europe/Berlin", "Africa/Cairo", "Australia/Lord_Howe"


def at(text: str, zone: str = "UTC") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def times(cron: str, zone: str, start: str, count: int) -> list[str]:
    found, moment = [], at(start, zone)
    for _ in range(count):
        moment = next_due(cron, zone, moment) or 0
        found.append(datetime.fromtimestamp(moment, ZoneInfo(zone)).strftime("%m-%d %H:%M %z"))
    return found


@pytest.mark.parametrize(
    ("cron", "zone", "start", "expected"),
    [
        ("0 3 * * 1", "UTC", "2026-11-22T00:00", ["11-23 03:00 +0000", "11-30 03:00 +0000"]),
        ("0 0 * * 0", "UTC", "2026-11-20T00:00", ["11-22 00:00 +0000", "11-29 00:00 +0000"]),  # Sunday, not Monday
        ("0 0 * * 7", "UTC", "2026-11-20T00:00", ["11-22 00:00 +0000", "11-29 00:00 +0000"]),
        ("0 0 13 * 5", "UTC", "2026-11-12T12:00", ["11-13 00:00 +0000", "11-20 00:00 +0000"]),  # either will do
        ("0 0 29 2 *", "UTC", "2026-11-12T12:00", ["02-29 00:00 +0000", "02-29 00:00 +0000"]),
        ("0 0 31 * *", "UTC", "2026-11-12T12:00", ["12-31 00:00 +0000", "01-31 00:00 +0000"]),
        # Spring: 02:30 does not exist on 29 March 2026 in Berlin: at once after the gap.
        ("30 2 * * *", BERLIN, "2026-03-28T12:00", ["03-29 03:00 +0200", "03-30 02:30 +0200"]),
        # Two times in one gap are one.
        ("0,30 2 * * *", BERLIN, "2026-03-28T12:00", ["03-29 03:00 +0200", "03-30 02:00 +0200"]),
        # Autumn: 02:30 comes twice on 25 October 2026: once.
        ("30 2 * * *", BERLIN, "2026-10-24T12:00", ["10-25 02:30 +0200", "10-26 02:30 +0100"]),
        # Every hour follows real time: nothing in the gap, and both of the repeated hour.
        ("0 * * * *", BERLIN, "2026-03-29T00:30", ["03-29 01:00 +0100", "03-29 03:00 +0200"]),
        ("0 * * * *", BERLIN, "2026-10-25T01:30", ["10-25 02:00 +0200", "10-25 02:00 +0100", "10-25 03:00 +0100"]),
        # Cairo's gap is at midnight.
        ("0 0 * * *", CAIRO, "2026-04-23T12:00", ["04-24 01:00 +0300", "04-25 00:00 +0300"]),
        # Lord Howe changes by half an hour.
        ("15 2 * * *", LORD_HOWE, "2026-10-03T12:00", ["10-04 02:30 +1100", "10-05 02:15 +1100"]),
    ],
)
def test_next_times(cron: str, zone: str, start: str, expected: list[str]) -> None:
    assert times(cron, zone, start, len(expected)) == expected


@settings(max_examples=150, deadline=None)
@given(
    minute=st.integers(0, 59),
    hour=st.integers(0, 23),
    zone=st.sampled_from([BERLIN, CAIRO, LORD_HOWE, "America/Sao_Paulo", "Asia/Kathmandu", "Pacific/Apia"]),
    start=st.integers(1_700_000_000, 2_000_000_000),
)
def test_a_daily_time_comes_once_a_local_day(minute: int, hour: int, zone: str, start: int) -> None:
    cron, moment, days = f"{minute} {hour} * * *", float(start), []
    for _ in range(400):
        moment = next_due(cron, zone, moment) or 0
        days.append(datetime.fromtimestamp(moment, ZoneInfo(zone)).date())
    assert days == sorted(set(days)), "a day twice"
    assert all((b - a).days == 1 for a, b in pairwise(days)), "a day left out"


@pytest.mark.parametrize(
    ("missed", "now", "runs_for", "left_out"),
    [
        ("run-latest", "2026-11-22T03:00:01", "2026-11-22T03:00", 0),
        ("skip", "2026-11-22T03:00:30", "2026-11-22T03:00", 0),  # on time
        ("run-latest", "2026-11-26T12:00", "2026-11-26T03:00", 4),  # one catch-up, never a burst
        ("skip", "2026-11-26T12:00", None, 5),
        ("skip", "2026-11-26T03:00:10", "2026-11-26T03:00", 4),
    ],
)
def test_what_was_missed(missed: str, now: str, runs_for: str | None, left_out: int) -> None:
    due = judge_due("0 3 * * *", "UTC", missed, at("2026-11-22T03:00"), at(now))
    assert due.run_for == (at(runs_for) if runs_for else None)
    assert len(due.left_out) == left_out
    assert due.next_at is not None and due.next_at > at(now)
    assert bool(due.why) is bool(left_out)


def test_a_long_absence_costs_little_memory() -> None:
    due = judge_due("*/5 * * * *", "UTC", "run-latest", at("2025-01-01T00:00"), at("2026-01-01T00:01"))
    assert due.run_for == at("2026-01-01T00:00")
    assert len(due.left_out) <= 10_000


def test_next_is_later_than_the_moment_itself() -> None:
    moment = datetime(2026, 11, 22, 3, tzinfo=UTC).timestamp()
    assert next_due("0 3 * * *", "UTC", moment) == moment + 86_400
