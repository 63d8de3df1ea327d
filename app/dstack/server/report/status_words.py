"""What fits into one line: a run's headline, its length, a time, a size; pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from dstack.server.models import Run
from dstack.server.report.words import change, duration, number, why
from dstack.wire.states import Reason

# Their message says all by itself.
_TELLING = (Reason.EXIT_CODE, Reason.NO_SUCH_TAG, Reason.DEPENDENCY_FAILED)
READ_SINCE = "the workflow files could be read since"
_UNITS = ("B", "KB", "MB", "GB", "TB", "PB")


def run_duration(run: Run) -> str:
    """Of a run that ended; empty for one that never began."""
    if run.started_at is None or run.finished_at is None:
        return ""
    return duration(run.finished_at - run.started_at)


def headline_name(run: Run, metrics: Mapping[str, float]) -> str | None:
    """The metric that stands for the run: the one it names, or the only one there is."""
    if run.headline:
        return run.headline
    return next(iter(metrics)) if len(metrics) == 1 else None


def headline(run: Run, metrics: Mapping[str, float], base: Mapping[str, float]) -> str:
    """`accuracy 0.934 (+0.012)`; empty where the run has no such metric."""
    name = headline_name(run, metrics)
    if name is None or name not in metrics:
        return ""
    moved = change(metrics[name], base.get(name), run.better)
    return f"{name} {number(metrics[name])}" + (f" ({moved.text})" if moved else "")


def why_ended(run: Run) -> str:
    """`the machine ran out of memory: exit code 137`, or the message alone where it says all."""
    return run.message if run.reason in _TELLING and run.message else why(run.reason, run.message)


def clock(moment: float) -> str:
    """`14:02 UTC`."""
    return f"{datetime.fromtimestamp(moment, UTC):%H:%M} UTC"


def size(count: int) -> str:
    """Bytes in decimal units: `512 B`, `1.2 GB`."""
    value, unit = float(count), 0
    while value >= 999.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{count} B" if unit == 0 else f"{value:.{0 if value >= 99.95 else 1}f} {_UNITS[unit]}"


def one_line(text: str, most: int) -> str:
    """Printable characters on one line, at most `most` of them, with `…` where it was cut."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= most else line[: most - 1].rstrip() + "…"


def short(sha: str) -> str:
    return sha[:7]
