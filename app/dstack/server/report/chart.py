"""Draws a metric over its steps as text that GitHub shows as a chart: Mermaid's `xychart-beta`, nothing newer than it.

GitHub's Mermaid lags behind, and knows no legend there: at most two lines, named by the caption in their order.
E-mails and some mobile views show the source, so whoever places a chart puts the numbers beside it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Final

Point = tuple[int, float]

MOST_TICKS: Final = 20
_MOST_LABEL_CHARACTERS: Final = 80  # of all ticks together: longer ones would overlap
_GREATEST: Final = 1e12  # numbers are written without exponent
_COLOURS: Final = '%%{init: {"themeVariables": {"xyChart": {"plotColorPalette": "#0969da, #8c959f"}}}}%%'


def metric_chart(name: str, points: Sequence[Point], base: Sequence[Point] = ()) -> str:
    """The metric `name` (step, value), and against it the base's, as a fenced block. Empty where fewer than two steps
    have a finite value. The base is shown over the steps of `points`, and left out where the two do not meet."""
    mine = _usable(points)
    if len(mine) < 2:
        return ""
    steps = _ticks(sorted(mine))
    lines = [[mine[step] for step in steps]]
    other = _usable(base)
    if other and min(other) <= steps[-1] and max(other) >= steps[0]:
        lines.append([_value_at(other, step) for step in steps])
    low, high = _range(value for line in lines for value in line)
    title = _title(name)
    return "\n".join(
        [
            "```mermaid",
            _COLOURS,
            "xychart-beta",
            f'    title "{title}"',
            f'    x-axis "step" [{", ".join(map(str, steps))}]',
            f'    y-axis "{title}" {_plain(low)} --> {_plain(high)}',
            *(f"    line [{', '.join(map(_plain, line))}]" for line in lines),
            "```",
        ]
    )


def has_base_line(chart: str) -> bool:
    """Whether a chart made here shows the base too."""
    return chart.count("\n    line [") == 2


def _usable(points: Iterable[Point]) -> dict[int, float]:
    """Step -> value, the last one of a step."""
    return {step: value for step, value in points if step >= 0 and math.isfinite(value) and abs(value) < _GREATEST}


def _ticks(steps: Sequence[int]) -> list[int]:
    """The first, the last, and others evenly between them, as many as have room."""
    most = max(2, min(MOST_TICKS, _MOST_LABEL_CHARACTERS // (len(str(steps[-1])) + 1)))
    if len(steps) <= most:
        return list(steps)
    return [steps[round(at * (len(steps) - 1) / (most - 1))] for at in range(most)]


def _value_at(points: dict[int, float], step: int) -> float:
    """The newest value at or before `step`; before the first one, the first."""
    before = [known for known in points if known <= step]
    return points[max(before) if before else min(points)]


def _range(values: Iterable[float]) -> tuple[float, float]:
    """From the lowest to the highest value with a little room; never empty."""
    shown = list(values)
    low, high = min(shown), max(shown)
    greatest = max(abs(low), abs(high))
    room = max((high - low) * 0.05, greatest * 1e-4, 1e-9) if high > low else max(greatest * 0.05, 1e-9) if low else 1.0
    return low - room, high + room


def _plain(value: float) -> str:
    """Six significant digits without an exponent, which the chart's grammar does not know."""
    if abs(value) < 1e-12:
        return "0"
    text = format(Decimal(f"{value:.6g}"), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _title(name: str) -> str:
    """Letters, digits and a few signs: quotes, braces, percent and `#` mean something to Mermaid, in strings too."""
    return re.sub(r"[^\w ./:()+=-]", "", name)[:60].strip() or "metric"
