"""The words of reports: durations, numbers, how a metric moved, and the word and sign of each state."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from dstack.wire.states import JobState, Reason, Verdict

STATES: Final[dict[JobState, str]] = {
    JobState.WAITING: "⏸️ waiting",
    JobState.QUEUED: "⏳ queued",
    JobState.OFFERED: "⏳ queued",
    JobState.PREPARING: "🔄 preparing",
    JobState.RUNNING: "🔄 running",
    JobState.SAVING: "🔄 saving",
    JobState.SUCCEEDED: "✅ succeeded",
    JobState.FAILED: "❌ failed",
    JobState.STOPPED: "⏹️ stopped",
    JobState.SKIPPED: "⏭️ skipped",
}

VERDICTS: Final[dict[Verdict, str]] = {
    Verdict.PENDING: "gate pending",
    Verdict.PASSED: "gate passed",
    Verdict.FAILED: "gate failed",
    Verdict.WITHIN_NOISE: "within noise",
    Verdict.NO_BASE: "first result",
}

_REASONS: Final[dict[Reason, str]] = {
    Reason.EXIT_CODE: "a command ended with an error",
    Reason.TIMEOUT: "it ran into its timeout",
    Reason.OUT_OF_MEMORY: "the machine ran out of memory",
    Reason.RUNNER_LOST: "the runner vanished",
    Reason.PREEMPTED: "the machine was taken away",
    Reason.CANCELED_BY: "stopped",
    Reason.SUPERSEDED_BY: "superseded",
    Reason.DEPENDENCY_FAILED: "a run it needs did not succeed",
    Reason.NOT_NEEDED: "not needed",
    Reason.CHECKOUT: "the commit could not be checked out",
    Reason.ENVIRONMENT: "the environment could not be made",
    Reason.INPUTS: "an input could not be mounted",
    Reason.ARTIFACTS: "an artifact could not be saved",
    Reason.DISK_FULL: "the disk is full",
    Reason.CONFIG: "the workflow file has a problem",
    Reason.NO_SUCH_TAG: "a tag it depends on does not exist",
}


def why(reason: Reason | None, message: str) -> str:
    """Why a run ended as it did, in words; empty where there is nothing to say. `message` is not made harmless."""
    if reason is None:
        return message
    words = _REASONS[reason]
    if reason in (Reason.CANCELED_BY, Reason.SUPERSEDED_BY):
        return f"{words} by {message}" if message else words
    return f"{words}: {message}" if message else words


def duration(seconds: float) -> str:
    """`4s`, `3m 12s`, `2h 07m`, `4d 03h`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    for unit, size, smaller, part in (("m", 60, "s", 1), ("h", 3600, "m", 60)):
        if whole < size * (60 if unit == "m" else 24):
            return f"{whole // size}{unit} {whole % size // part:02d}{smaller}"
    return f"{whole // 86400}d {whole % 86400 // 3600:02d}h"


def number(value: float) -> str:
    """A metric in four significant digits, in plain ASCII: `0.934`, `12 345`, `1.2e-05`, `nan`."""
    if not math.isfinite(value):
        return str(value)
    if value == int(value) and abs(value) < 1e6:
        return str(int(value))
    if 1e-4 <= abs(value) < 1e6:
        text = f"{value:.{max(0, 3 - math.floor(math.log10(abs(value))))}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    return f"{value:.3g}"


@dataclass(frozen=True, slots=True)
class Change:
    """How a metric moved against the base: `text` is signed; `tone` is better, worse, same, or empty where nobody said
    which way is better."""

    text: str
    tone: str


def change(value: float, base: float | None, better: str) -> Change | None:
    """The change against the base; None without one."""
    if base is None or not (math.isfinite(value) and math.isfinite(base)):
        return None
    moved = value - base
    if abs(moved) <= 1e-9 * max(abs(value), abs(base)):
        return Change("±0", "same")
    tone = "" if better not in ("higher", "lower") else "better" if (moved > 0) == (better == "higher") else "worse"
    return Change(("+" if moved > 0 else "-") + number(abs(moved)), tone)
