"""How much of an approval's budget is used: GPUs times the time that attempts had them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from dstack.errors import Invalid

_UNITS = {"h": 3600.0, "min": 60.0}
_BUDGET = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)\s?gpu-?(h|min)")


@dataclass(frozen=True, slots=True)
class Usage:
    """One attempt: how many GPUs it has, from when to when (seconds since the epoch; None: it goes on)."""

    devices: int
    began: float
    ended: float | None = None


def parse_budget(text: str) -> float:
    """GPU seconds: `4gpu-h` is one GPU for four hours, or four for one; `30gpu-min`. Raises Invalid."""
    found = _BUDGET.fullmatch(text.strip().lower())
    if found is None or float(found[1]) == 0:
        raise Invalid(f"{text[:40]!r} is not a budget", "It reads like 4gpu-h, 1.5gpu-h or 30gpu-min.")
    return float(found[1]) * _UNITS[found[2]]


def name_budget(gpu_seconds: float) -> str:
    """As people write it."""
    unit = "h" if gpu_seconds >= _UNITS["h"] else "min"
    return f"{gpu_seconds / _UNITS[unit]:.4g}gpu-{unit}"


def gpu_seconds_used(attempts: Iterable[Usage], since: float, now: float) -> float:
    """By these attempts since `since`, when the approval was given: another one begins anew. Jobs without GPUs use
    none, so no budget holds them; their `timeout` does. A clock that was set back takes nothing off."""
    ends = ((usage, now if usage.ended is None else usage.ended) for usage in attempts)
    return sum(usage.devices * max(0.0, end - max(usage.began, since)) for usage, end in ends)


def is_used_up(budget: float | None, used: float) -> bool:
    """None is no limit."""
    return budget is not None and used >= budget
