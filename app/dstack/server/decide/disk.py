"""Whether the server's disk is too full for new work."""

from __future__ import annotations


def why_too_full(used: int, total: int, max_percent: float) -> str:
    """The reason in words; empty while there is room."""
    percent = 100 * used / total if total else 0.0
    if percent < max_percent:
        return ""
    return f"the server's disk is {percent:.0f} % full (limit {max_percent:g} %); free some: `dstack prune`"
