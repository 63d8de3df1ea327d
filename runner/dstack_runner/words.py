"""How the runner counts things in the job's log."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """`1 file`, `12 files`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
