"""How long what did not work is left alone before it is tried again. Times are seconds of one clock."""

from __future__ import annotations

FIRST_S = 60.0
LONGEST_S = 3600.0
_DOUBLINGS = 10  # more would reach the longest anyway


def rest_after(failures: int, *, will_pass: bool = False) -> float:
    """A minute after the first failure in a row, then twice as long each time, an hour at most; always a minute where
    the other side is down, which does not last."""
    return FIRST_S if will_pass else min(LONGEST_S, FIRST_S * 2 ** min(failures - 1, _DOUBLINGS))


def has_rested(began: float, failed: float, now: float) -> bool:
    """The same rule for what remembers only when it was begun and when it last failed: it rests as long again."""
    return now - failed >= min(LONGEST_S, max(FIRST_S, failed - began))
