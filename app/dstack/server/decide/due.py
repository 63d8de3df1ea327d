"""When a schedule is due: cron times in a time zone as instants, by Vixie cron's rules for the hours that a change of
the clock leaves out or repeats.

A schedule of fixed hours (`30 2 * * *`) fires once a day it names: at the first moment after the gap when its time is
left out, and at the first of the two when its time comes twice. One of every hour (`*/10 * * * *`) follows real time.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from dstack.language.cron import cron_values

ON_TIME_S = 60.0  # a time found due within this is not a missed one
_YEARS_AHEAD = 9  # 29 February comes round after eight at most
_MANY = 10_000


def next_due(cron: str, timezone: str, after: float) -> float | None:
    """The first due time later than `after` (seconds since the epoch), None when there is none in nine years."""
    return next(_due_after(cron, timezone, after), None)


@dataclass(frozen=True, slots=True)
class Due:
    """What to do about a schedule: the nominal time to run for, if any; how many others are left out, and why."""

    run_for: float | None
    left_out: tuple[float, ...]
    next_at: float | None
    why: str = ""


def judge_due(cron: str, timezone: str, missed: str, due_at: float, now: float) -> Due:
    """`due_at` has come. Of times missed (the server was away) the latest is run once, or none with `missed: skip`."""
    times = [due_at]
    for moment in _due_after(cron, timezone, due_at):
        if moment > now:
            return _judge(times, missed, moment, now)
        times.append(moment)
        if len(times) > _MANY:  # away for a month with a schedule of minutes: the latest is what counts
            times = [times[0], *times[-2:]]
    return _judge(times, missed, None, now)


def _judge(times: list[float], missed: str, next_at: float | None, now: float) -> Due:
    latest = times[-1]
    if now - latest <= ON_TIME_S:
        return Due(latest, tuple(times[:-1]), next_at, "the server was away" if times[:-1] else "")
    if missed == "skip":
        return Due(
            None, tuple(times), next_at, "missed while the server was away, and the schedule says `missed: skip`"
        )
    return Due(latest, tuple(times[:-1]), next_at, "the server was away")


def _due_after(cron: str, timezone: str, after: float) -> Iterator[float]:
    zone = ZoneInfo(timezone)
    first = datetime.fromtimestamp(after, zone).date() - timedelta(days=1)
    last_at = after
    for day in _days(cron, first):
        instants = _instants(cron, day, zone)
        for instant in instants[bisect_right(instants, last_at) :]:
            last_at = instant
            yield instant


def _days(cron: str, first: date) -> Iterator[date]:
    """Days the expression names. Where both day and weekday are restricted, either will do."""
    _, _, days, months, weekdays = cron_values(cron)
    both = not cron.split()[2].startswith("*") and not cron.split()[4].startswith("*")
    day = first
    for _ in range(_YEARS_AHEAD * 366):
        in_days, in_weekdays = day.day in days, day.isoweekday() % 7 in weekdays
        if day.month in months and ((in_days or in_weekdays) if both else (in_days and in_weekdays)):
            yield day
        if day == date.max:
            return
        day += timedelta(days=1)


def _instants(cron: str, day: date, zone: ZoneInfo) -> list[float]:
    minutes, hours, *_ = cron_values(cron)
    every_hour = cron.split()[1].startswith("*")
    found: set[float] = set()
    for hour in hours:
        for minute in minutes:
            found.update(_resolve(datetime.combine(day, time(hour, minute)), zone, every_hour))
    return sorted(found)


def _resolve(local: datetime, zone: ZoneInfo, real_time: bool) -> list[float]:
    """The instants a wall-clock time stands for."""
    first, second = (local.replace(tzinfo=zone, fold=fold) for fold in (0, 1))
    exists = first.astimezone(UTC).astimezone(zone).replace(tzinfo=None) == local
    if exists and first.utcoffset() != second.utcoffset():
        return [first.timestamp(), second.timestamp()] if real_time else [first.timestamp()]
    if exists:
        return [first.timestamp()]
    return [] if real_time else [_end_of_gap(first.timestamp(), zone)]


def _end_of_gap(inside: float, zone: ZoneInfo) -> float:
    """The moment the clock went forward. `inside` lies after it by less than the gap, counted from the old offset."""
    low, high = int(inside) - 86_400, int(inside)
    before = datetime.fromtimestamp(low, zone).utcoffset()
    while high - low > 1:
        middle = (low + high) // 2
        if datetime.fromtimestamp(middle, zone).utcoffset() == before:
            low = middle
        else:
            high = middle
    return float(high)
