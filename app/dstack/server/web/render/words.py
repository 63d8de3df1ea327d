"""The words of the pages: states, reasons as sentences with a next step, ages, durations, sizes and numbers."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from markupsafe import Markup, escape

from dstack.wire.states import JobState

_MINUS: Final = "\u2212"
_NONE: Final = "\u2013"


@dataclass(frozen=True, slots=True)
class Mark:
    """How a state looks: its word, a tone (a CSS class) and an icon (a symbol of parts/icons.html)."""

    word: str
    tone: str
    icon: str


MARKS: Final[dict[str, Mark]] = {
    "waiting": Mark("Waiting", "wait", "clock"),
    "queued": Mark("Queued", "wait", "clock"),
    "offered": Mark("Offered", "wait", "clock"),
    "preparing": Mark("Preparing", "live", "spin"),
    "running": Mark("Running", "live", "spin"),
    "saving": Mark("Saving", "live", "spin"),
    "succeeded": Mark("Succeeded", "good", "check"),
    "failed": Mark("Failed", "bad", "cross"),
    "stopped": Mark("Stopped", "quiet", "stop"),
    "skipped": Mark("Skipped", "quiet", "skip"),
    "lost": Mark("Lost", "bad", "cross"),
    "preempted": Mark("Preempted", "quiet", "stop"),
    "received": Mark("Received", "wait", "clock"),
    "processed": Mark("Processed", "good", "check"),
    "ignored": Mark("Ignored", "quiet", "skip"),
    "online": Mark("Online", "good", "dot"),
    "draining": Mark("Draining", "wait", "dot"),
    "offline": Mark("Offline", "quiet", "dot"),
}

VERDICTS: Final[dict[str, Mark]] = {
    "pending": Mark("Gate pending", "wait", "clock"),
    "passed": Mark("Gate passed", "good", "check"),
    "failed": Mark("Gate failed", "bad", "cross"),
    "within_noise": Mark("Within noise", "quiet", "skip"),
    "no_base": Mark("First result", "quiet", "skip"),
}


def mark(state: str) -> Mark:
    """How a state of a run, job, attempt, delivery or runner looks; one of a newer server shows its own word."""
    return MARKS.get(state) or Mark(state.replace("_", " ").capitalize() or "Unknown", "quiet", "dot")


def verdict_mark(verdict: str) -> Mark:
    """How a gate's verdict looks."""
    return VERDICTS.get(verdict) or Mark(verdict.replace("_", " ").capitalize(), "quiet", "dot")


_TRIGGERS: Final = {"pull_request": "pull request", "tag-moved": "tag moved", "manual": "by hand"}


def trigger_words(trigger: str) -> str:
    """Why a run exists, as people say it."""
    return _TRIGGERS.get(trigger) or trigger.replace("_", " ")


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why something stands as it does, in a sentence, and what to do next (may be empty). `command` can be typed."""

    text: str
    advice: str = ""
    command: str = ""


# Reason -> what happened, what to do, a command that does it.
_REASONS: Final[dict[str, tuple[str, str, str]]] = {
    "exit_code": ("A command ended with an error.", "The end of the log says more. Fix it and push again.", ""),
    "timeout": ("It ran into its timeout.", "Raise `timeout` of the workflow, or make the job shorter.", ""),
    "out_of_memory": ("The machine ran out of memory.", "Ask for more with `resources: {memory: ...}`.", ""),
    "runner_lost": ("The runner vanished.", "See the Runners page; restart the run when a runner is back.", ""),
    "preempted": ("The machine was taken away.", "Restart the run to try on another machine.", ""),
    "canceled_by": ("It was stopped by hand.", "", ""),
    "superseded_by": ("A newer one replaced it.", "", ""),
    "dependency_failed": ("A run it needs did not succeed.", "Open the run it needs; restart that one first.", ""),
    "not_needed": ("It was not needed.", "", ""),
    "checkout": ("The commit could not be checked out.", "See the log; the commit must still be in the repo.", ""),
    "environment": ("The environment could not be made.", "See the log; check the workflow's requirements.", ""),
    "inputs": ("An input could not be mounted.", "See the log; an input may clash with a file tracked by Git.", ""),
    "artifacts": ("An artifact could not be saved.", "See the log; check the workflow's `artifacts` paths.", ""),
    "disk_full": ("The disk is full.", "Make room, then restart the run.", "dstack prune"),
    "config": ("The workflow file has a problem.", "Check it, commit and push again.", "dstack lint"),
    "no_such_tag": (
        "A tag it depends on does not exist.",
        "Run the workflow that makes it, then restart this run.",
        "",
    ),
}


_WAITS: Final[dict[str, str]] = {
    "waiting": "It waits for the runs it needs.",
    "queued": "It waits for a free runner.",
    "offered": "A runner is about to take it.",
}


def explain(state: str, reason: str, *, message: str = "", exit_code: int | None = None) -> Explanation:
    """Why a run or job is in `state`. `reason` is one of the fixed list, with free text after `:` or a blank, or, while
    it is queued or waiting, a sentence already."""
    key, detail = _split(reason)
    if state == JobState.SUCCEEDED or (not reason and not message):
        return Explanation(_WAITS.get(state, ""))
    if key not in _REASONS:
        return Explanation(_sentence(": ".join(part for part in (reason, message) if part)))
    text, advice, command = _REASONS[key]
    extra = (message or detail).strip()
    if key == "canceled_by" and extra:  # somebody's name, or why the server did it
        return Explanation(_stopped(f"It was stopped: {extra}" if " " in extra else f"It was stopped by {extra}"))
    if key == "exit_code" and exit_code is not None:
        code = f"exit code {exit_code}{_signal(exit_code)}"
        failed = extra.removesuffix(f": exit code {exit_code}")
        if failed != extra and "`" not in failed:  # the runner names the command that failed
            return Explanation(f"`{failed}` ended with {code}.", advice, command)
        text = f"A command ended with {code}."
    return Explanation(_stopped(f"{text[:-1]}: {extra}") if extra else text, advice, command)


def _stopped(text: str) -> str:
    """With a full stop, unless it ends like a sentence already."""
    return text if text[-1] in ".!?)`" else f"{text}."


def with_code(text: str) -> Markup:
    """A sentence as HTML, where what stands in backticks is code."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return escape(text)
    code = Markup("<code>{}</code>")
    return Markup("").join(code.format(part) if at % 2 else part for at, part in enumerate(parts))


def _split(reason: str) -> tuple[str, str]:
    found = re.match(r"([a-z_]+)(?:$|[:\s]\s*)(.*)", reason, re.DOTALL)
    return (found[1], found[2]) if found else (reason, "")


def _sentence(text: str) -> str:
    text = text.strip()
    return _stopped(text[0].upper() + text[1:]) if text else ""


def _signal(code: int) -> str:
    number = -code if code < 0 else code - 128 if 128 < code < 160 else 0
    names = {2: "SIGINT", 6: "SIGABRT", 9: "SIGKILL", 11: "SIGSEGV", 15: "SIGTERM"}
    return f" ({names[number]})" if number in names else ""


def parse_time(text: str | None) -> datetime | None:
    """An ISO 8601 time; one without a zone is UTC. None for nothing or nonsense."""
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def seconds_between(start: str | None, end: str | None, now: datetime) -> float | None:
    """Seconds from `start` to `end`, or to `now` while there is no end. None before it started."""
    began = parse_time(start)
    return None if began is None else max(0.0, ((parse_time(end) or now) - began).total_seconds())


def duration(seconds: float | None) -> str:
    """`0.4 s`, `12 s`, `3 m 05 s`, `2 h 07 m`, `4 d 03 h`; an en dash for None."""
    if seconds is None:
        return _NONE
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    for unit, size, smaller, part in (("m", 60, "s", 1), ("h", 3600, "m", 60), ("d", 86400, "h", 3600)):
        if whole < size * (60 if unit == "m" else 24) or unit == "d":
            return f"{whole // size} {unit} {whole % size // part:02d} {smaller}"
    raise AssertionError("unreachable")


def age(text: str | None, now: datetime) -> str:
    """How long ago, in words a person would say: `just now`, `5 minutes ago`, `3 days ago`, then the date."""
    at = parse_time(text)
    if at is None:
        return "never"
    seconds = (now - at).total_seconds()
    if seconds < 10:
        return "just now"
    for limit, size, unit in (
        (60, 1, "second"),
        (3600, 60, "minute"),
        (86400, 3600, "hour"),
        (14 * 86400, 86400, "day"),
    ):
        if seconds < limit:
            count = int(seconds // size)
            return f"{count} {unit}{'' if count == 1 else 's'} ago"
    return f"{at.day} {at:%b %Y}"


def clock(text: str | None) -> str:
    """The full time in UTC, for titles."""
    at = parse_time(text)
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if at else ""


def size(count: int) -> str:
    """Bytes in binary units: `0 B`, `512 B`, `1.4 MiB`."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 999.5 or unit == "TiB":
            return f"{count} B" if unit == "B" else f"{value:.{0 if value >= 99.95 else 1}f} {unit}"
        value /= 1024
    raise AssertionError("unreachable")


def number(value: float) -> str:
    """A metric as people read it: four significant digits, thousands apart, no needless zeros."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else f"{_MINUS}∞"
    if value == int(value) and abs(value) < 1e9:
        return f"{int(value):,}".replace(",", "\u202f").replace("-", _MINUS)
    if 1e-4 <= abs(value) < 1e6:
        decimals = max(0, 4 - 1 - math.floor(math.log10(abs(value))))
        text = f"{value:,.{decimals}f}".replace(",", "\u202f")
        text = text.rstrip("0").rstrip(".") if "." in text else text
    else:
        text = f"{value:.3e}".replace("e+0", "e").replace("e-0", "e-").replace("e+", "e")
    return text.replace("-", _MINUS, 1) if value < 0 else text


@dataclass(frozen=True, slots=True)
class Delta:
    """The change of a metric against an earlier run: its text, an arrow (`up`, `down`, `same`) and a tone."""

    text: str
    arrow: str
    tone: str


def delta(value: float, previous: float | None, better: str = "") -> Delta | None:
    """The change against `previous`; no colour is given where it is not known which way is better."""
    if previous is None or not (math.isfinite(value) and math.isfinite(previous)):
        return None
    change = value - previous
    if abs(change) <= 1e-9 * max(abs(value), abs(previous)):
        return Delta("no change", "same", "quiet")
    up = change > 0
    tone = "quiet" if better not in ("higher", "lower") else "good" if up == (better == "higher") else "bad"
    text = number(abs(change))
    return Delta(("+" if up else _MINUS) + text, "up" if up else "down", tone)


def short_sha(sha: str) -> str:
    """The first eight characters of a commit."""
    return sha[:8]


def short_digest(digest: str) -> str:
    """The first twelve characters of a digest, without its `sha256:`."""
    return digest.removeprefix("sha256:")[:12]
