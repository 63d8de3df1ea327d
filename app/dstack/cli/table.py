"""Lays out rows in aligned columns that fit a width; pure. Wide characters count as two, as terminals show them."""

from __future__ import annotations

from collections.abc import Sequence
from unicodedata import combining, east_asian_width

GAP = 2
MIN_COLUMN = 8


def lay_out(
    headers: Sequence[str], rows: Sequence[Sequence[str]], width: int, *, right: Sequence[int] = (), ellipsis: str = "…"
) -> list[list[str]]:
    """Header and rows as padded cells of equal widths. `right` names right-aligned columns by index.

    See `fit_widths` for what happens when the width is short.
    """
    cells = [[one_line(cell) for cell in row] for row in (headers, *rows)]
    widths = fit_widths([max(columns(row[i]) for row in cells) for i in range(len(headers))], width)
    return [
        [pad(cut(row[i], w, ellipsis), w, right=i in right, last=i == len(widths) - 1) for i, w in enumerate(widths)]
        for row in cells
    ]


def fit_widths(widths: list[int], width: int) -> list[int]:
    """Column widths that fit. The first column holds what one types to go on, so it is cut only when it stands alone:
    the widest others give way down to eight, then columns fall off at the right."""
    widths = list(widths)
    while len(widths) > 1 and (excess := sum(widths) + GAP * (len(widths) - 1) - width) > 0:
        others = widths[1:]
        widest = max(others)
        if sum(max(0, w - MIN_COLUMN) for w in others) < excess:
            widths.pop()
        else:
            widths[others.index(widest) + 1] -= 1
    return [min(widths[0], width), *widths[1:]]


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
