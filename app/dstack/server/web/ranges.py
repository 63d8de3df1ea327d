"""Reads the Range header of a GET, pure: at most a few ranges are looked at, one is served (B80)."""

from __future__ import annotations

import re

MAX_RANGES = 8
_ONE = re.compile(r"(\d{0,15})-(\d{0,15})")


class NotSatisfiable(Exception):
    """The answer is 416."""


def parse_range(header: str, size: int) -> tuple[int, int] | None:
    """The bytes to send as (start, end), end excluded; None: all of them.

    A unit that is not `bytes` is ignored, and so are several valid ranges: a server may answer them with the whole.
    Raises NotSatisfiable for more than `MAX_RANGES`, an inverted or unreadable one, or one beyond the end.
    """
    unit, _, text = header.partition("=")
    if not header or unit.strip().lower() != "bytes":
        return None
    if text.count(",") >= MAX_RANGES:
        raise NotSatisfiable
    spans = [_span(part.strip(), size) for part in text.split(",")]
    return spans[0] if len(spans) == 1 else None


def _span(text: str, size: int) -> tuple[int, int]:
    match = _ONE.fullmatch(text)
    if not match or text == "-":
        raise NotSatisfiable
    first, last = match.groups()
    if first:
        start, end = int(first), min(int(last) + 1 if last else size, size)
    else:
        start, end = max(0, size - int(last)), size
    if start >= end or (last and first and int(last) < int(first)):
        raise NotSatisfiable
    return start, end
