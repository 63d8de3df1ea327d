"""When the forge is written to again, as tables."""

from __future__ import annotations

import pytest

from dstack.server.decide.pacing import (
    CHECK_STEPS,
    Pace,
    backoff_s,
    is_progress_due,
    next_progress,
)


@pytest.mark.parametrize(
    ("elapsed", "due"),
    [(0, 60), (59.9, 60), (60, 120), (119, 120), (120, 300), (300, 600), (599, 600), (600, 1200), (3599, 3600),
     (3600, 4200), (86_400 * 30, 86_400 * 30 + 600)],
)  # fmt: skip
def test_progress_is_told_after_1_2_5_10_minutes_and_then_every_10(elapsed: float, due: float) -> None:
    assert next_progress(elapsed) == due


def test_an_hour_of_a_check_is_few_writes() -> None:
    times, at = [], 0.0
    while (at := next_progress(at, CHECK_STEPS)) <= 3600:
        times.append(at)
    assert times == [60, 300, 600, 2400]


@pytest.mark.parametrize(
    ("told_at", "now", "due"),
    [(None, 1000, True), (1000, 1059, False), (1000, 1060, True), (1060, 1119, False), (1061, 1120, True),
     (900, 1000, False), (5000, 5199, False), (5000, 5200, True)],
)  # fmt: skip
def test_progress_is_due_once_a_time_of_the_schedule_has_passed(told_at: float | None, now: float, due: bool) -> None:
    assert is_progress_due(1000, told_at, now) is due


def test_waits_double_up_to_a_minute_and_vary() -> None:
    assert [backoff_s(tries, 0) for tries in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert backoff_s(0, 1) == 0.5 and backoff_s(1000, 1) == 30


def test_a_lane_rests_between_writes_and_longer_when_nobody_answers() -> None:
    pace = Pace()
    assert pace.wait_s(1000) == 0
    pace = pace.after_answer(1000, 1.0)
    assert (pace.wait_s(1000), pace.wait_s(1000.25), pace.wait_s(1001)) == (1.0, 0.75, 0)
    for expected in (1, 2, 4, 8):
        pace = pace.after_silence(1001, 1.0, 0)
        assert pace.wait_s(1001) == expected
    assert pace.after_answer(1009, 1.0).after_silence(1010, 1.0, 0).wait_s(1010) == 1


def test_a_lane_waits_as_long_as_it_is_asked_to_within_reason() -> None:
    assert Pace().after_busy(1000, 37).wait_s(1000) == 37
    assert Pace().after_busy(1000, 0).wait_s(1000) == 1
    assert Pace().after_busy(1000, 1e9).wait_s(1000) == 7200


def test_a_clock_that_was_set_back_holds_nothing_up() -> None:
    assert Pace().after_busy(1000, 60).wait_s(900) == 0
