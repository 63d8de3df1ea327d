"""Checks a cron expression of five fields; when it is due is the schedule timer's business."""

from __future__ import annotations

import re
from calendar import monthrange
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from dstack.language.quantities import Wrong

MIN_GAP_MINUTES = 5

_FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day", 1, 31), ("month", 1, 12), ("weekday", 0, 7))
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_WEEKDAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
_PART = re.compile(r"(\*|[a-z0-9]{1,3}(?:-[a-z0-9]{1,3})?)(?:/(\d{1,2}))?\Z")


def cron_values(text: str) -> tuple[frozenset[int], ...]:
    """The minutes, hours, days, months and weekdays (0 = Sunday) an expression names. Raises Wrong."""
    fields = text.split()
    if len(fields) != len(_FIELDS):
        raise Wrong(message=f'found {len(fields)} fields in "{text}"')
    return tuple(_field(field, *kind) for field, kind in zip(fields, _FIELDS, strict=True))


def parse_cron(text: str) -> str:
    """The expression itself, after checking that it is ever due and not more often than every five minutes."""
    minutes, hours, days, months, _ = cron_values(text)
    day_field, weekday_field = text.split()[2], text.split()[4]
    if not weekday_field.startswith("*"):
        pass  # a weekday comes round in every month
    elif not day_field.startswith("*") and min(days) > max(monthrange(2024, month)[1] for month in months):
        raise Wrong(message=f'"{text}" is never due: no such day in these months')
    if _smallest_gap(minutes, hours) < MIN_GAP_MINUTES:
        raise Wrong(message=f'"{text}" is due more often than every {MIN_GAP_MINUTES} minutes')
    return " ".join(text.split())


def parse_timezone(text: str) -> str:
    """The name of a time zone. Raises Wrong."""
    try:
        ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise Wrong('a name such as "Europe/Berlin"') from None
    return text


def _field(text: str, name: str, low: int, high: int) -> frozenset[int]:
    values: set[int] = set()
    for part in text.lower().split(","):
        match = _PART.match(part)
        if not match:
            raise Wrong(message=f'found "{text}" for the {name}')
        span, step = match.groups()
        first, last = (low, high) if span == "*" else _span(span, text, name)
        if step and span.isdigit():
            last = high  # `5/15` reads: from 5 on, every 15
        if not low <= first <= last <= high or step == "0" or step == "00":
            raise Wrong(f"{low} to {high}", f'found "{text}" for the {name}')
        values.update(range(first, last + 1, int(step or 1)))
    return frozenset(value % 7 for value in values) if name == "weekday" else frozenset(values)


def _span(span: str, text: str, name: str) -> tuple[int, int]:
    names = {"month": _MONTHS, "weekday": _WEEKDAYS}.get(name, [])
    base = 1 if name == "month" else 0
    numbers = []
    for word in span.split("-"):
        if word.isdigit():
            numbers.append(int(word))
        elif word in names:
            numbers.append(names.index(word) + base)
        else:
            raise Wrong(message=f'found "{text}" for the {name}')
    return numbers[0], numbers[-1]


def _smallest_gap(minutes: frozenset[int], hours: frozenset[int]) -> int:
    """Minutes between two due times that follow each other most closely."""
    times = sorted(hour * 60 + minute for hour in hours for minute in minutes)
    gaps = [b - a for a, b in zip(times, [*times[1:], times[0] + 24 * 60], strict=True)]
    return min(gaps)
