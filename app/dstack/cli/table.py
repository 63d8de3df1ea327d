"""Lays out rows in aligned columns that fit a width; pure. Wide characters count as two, as terminals show them."""

from __future__ import annotations

from collections.abc import Sequence
from unicodedata import combining, east_asian_width

GAP = 2
MIN_COLUMN = 4


def lay_out(
    headers: Sequence[str], rows: Sequence[Sequence[str]], width: int, *, right: Sequence[int] = (), ellipsis: str = "…"
) -> list[list[str]]:
    """Header and rows as padded cells of equal widths. `right` names right-aligned columns by index.

    When the width is short, the widest column gives way first, down to four; then columns fall off at the right.
    """
    if not headers:
        return []
    cells = [[one_line(cell) for cell in row] for row in (headers, *rows)]
    widths = fit_widths([max(columns(row[i]) for row in cells) for i in range(len(headers))], width)
    return [
        [pad(cut(row[i], w, ellipsis), w, right=i in right, last=i == len(widths) - 1) for i, w in enumerate(widths)]
        for row in cells
    ]


def fit_widths(widths: list[int], width: int) -> list[int]:
    """Column widths that fit: shrunk from the widest, then shortened by whole columns from the right."""
    widths = list(widths)
    while len(widths) > 1 and sum(min(w, MIN_COLUMN) for w in widths) + GAP * (len(widths) - 1) > width:
        widths.pop()
    excess = sum(widths) + GAP * (len(widths) - 1) - width
    while excess > 0 and max(widths) > MIN_COLUMN:
        ordered = sorted(set(widths), reverse=True)
        widest, target = ordered[0], max(ordered[1] if len(ordered) > 1 else MIN_COLUMN, MIN_COLUMN)
        which = [i for i, w in enumerate(widths) if w == widest]
        step = max(1, min(widest - target, excess // len(which)))
        for i in which[: excess if step == 1 else len(which)]:
            widths[i] -= step
            excess -= step
    return widths


def one_line(text: str) -> str:
    """Without line ends, tabs and control characters."""
    return "".join(c if c.isprintable() else " " for c in text)


def columns(text: str) -> int:
    """How many columns a terminal uses for the text."""
    if text.isascii():
        return len(text)
    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)


def cut(text: str, width: int, ellipsis: str = "…") -> str:
    """The text, or its beginning with an ellipsis, within `width` columns."""
    if columns(text) <= width:
        return text
    room = width - columns(ellipsis)
    if room <= 0:
        return ellipsis[:width]
    out, used = [], 0
    for c in text:
        used += columns(c)
        if used > room:
            break
        out.append(c)
    return "".join(out) + ellipsis


def pad(text: str, width: int, *, right: bool, last: bool) -> str:
    space = " " * (width - columns(text))
    return space + text if right else text if last else text + space
