"""What a measurement answers, and the one table all of them are printed in."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table. `ours` and `floor` have the same unit; `met` is None where no goal was set.

    The floor is what plain tools take for the same bytes or the same processes, measured in the same run.
    """

    what: str
    unit: str
    ours: float
    goal: str = ""
    met: bool | None = None
    floor: float | None = None
    floor_is: str = ""
    note: str = ""

    @property
    def ratio(self) -> float | None:
        return self.ours / self.floor if self.floor else None


def p95(values: Sequence[float]) -> float:
    """The value that 95 of 100 do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, -(-95 * len(ordered) // 100) - 1)]


def middle(values: Sequence[float]) -> float:
    return float(median(values))


def as_json(figures: Sequence[Figure]) -> str:
    return json.dumps([{**asdict(figure), "ratio": figure.ratio} for figure in figures], indent=2)


def as_table(figures: Sequence[Figure]) -> str:
    """Aligned columns; what the floor is and what there is to say come below, numbered."""
    head = ("figure", "ours", "floor", "ratio", "goal", "met")
    rows = [head, *(_row(number, figure) for number, figure in enumerate(figures, 1))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.insert(1, "-" * max(len(line) for line in lines))
    for number, figure in enumerate(figures, 1):
        said = "; ".join(text for text in (f"floor: {figure.floor_is}" if figure.floor_is else "", figure.note) if text)
        if said:
            lines.append(f"({number}) {said}")
    return "\n".join(lines)


def _row(number: int, figure: Figure) -> tuple[str, ...]:
    floor = "" if figure.floor is None else _number(figure.floor, figure.unit)
    ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}"
    met = {True: "yes", False: "NO", None: ""}[figure.met]
    return f"({number}) {figure.what}", _number(figure.ours, figure.unit), floor, ratio, figure.goal, met


def _number(value: float, unit: str) -> str:
    return f"{value:.0f} {unit}" if value >= 100 or value == int(value) else f"{value:.1f} {unit}"
