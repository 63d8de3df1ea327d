"""Sizes, durations and times in words a person reads at a glance; pure, the present time is an argument."""

from __future__ import annotations

from datetime import UTC, datetime

_UNITS = ("B", "KB", "MB", "GB", "TB", "PB")
_SIZES = {"": 1, "B": 1, **{unit: 1024**power for power, unit in enumerate(_UNITS) if power}}


def size(count: int) -> str:
    """`1.5 MB`; a KB is 1024 bytes, as everywhere in dstack."""
    value = float(count)
    for unit in _UNITS:
        if value < 1024 or unit == _UNITS[-1]:
            break
        value /= 1024
    return f"{count} B" if unit == "B" else f"{value:.1f} {unit}" if value < 100 else f"{value:.0f} {unit}"


def parse_size(text: str) -> int | None:
    """Bytes of `200MB`, `1.5 GB` or `4096`; None when it is not a size."""
    number = text.strip().upper().replace("IB", "B")
    unit = number.lstrip("0123456789.").strip()
    unit = unit if unit.endswith("B") or not unit else unit + "B"
    digits = number[: len(number) - len(number.lstrip("0123456789."))]
    if unit not in _SIZES or not digits or digits.count(".") > 1 or digits == ".":
        return None
    return int(float(digits) * _SIZES[unit])


def duration(seconds: float) -> str:
    """`4.2s`, `3m 05s`, `2h 10m`, `5d 4h`."""
    seconds = max(0.0, seconds)
    if seconds < 10:
        return f"{seconds:.1f}s"
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h {whole % 3600 // 60:02}m"
    return f"{whole // 86400}d {whole % 86400 // 3600}h"


def parse_time(text: str | None) -> datetime | None:
    """An ISO 8601 time of the server; one without a zone is UTC. None for none, or for what is no time."""
    if not text:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def ago(text: str | None, now: datetime) -> str:
    """`5 min ago`; a clock that runs ahead of ours by a little reads `now`."""
    time = parse_time(text)
    if time is None:
        return ""
    seconds = (now - time).total_seconds()
    for limit, length, word in ((90, 1, "s"), (5400, 60, "min"), (129_600, 3600, "h"), (60 * 86400, 86400, "d")):
        if seconds < limit:
            return "now" if seconds < 2 else f"{int(seconds / length)} {word} ago"
    return time.date().isoformat()


def elapsed(started: str | None, finished: str | None, now: datetime) -> str:
    """How long it took, or has been going on; empty when it has not begun."""
    start = parse_time(started)
    if start is None:
        return ""
    return duration(((parse_time(finished) or now) - start).total_seconds())


def signed(value: float) -> str:
    """A difference, such as `+0.042`, with the sign always there; no difference is `+0`."""
    return f"{'+' if value > 0 else ''}{number(value)}" if value else "+0"


def number(value: float) -> str:
    """A metric with four significant digits, whole numbers as such."""
    return str(int(value)) if value == value and abs(value) < 1e15 and value == int(value) else f"{value:.4g}"
