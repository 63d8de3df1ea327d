"""Draws a metric as a line chart in SVG: axes, ticks, a title on every point; no script and no inline style."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup, escape

from dstack.server.web.render.words import number

Point = tuple[int, float]

WIDTH: Final = 440
HEIGHT: Final = 190
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 10, 28
MAX_POINTS: Final = 240


@dataclass(frozen=True, slots=True)
class Summary:
    """What a table beside the chart says. Steps of the extremes are the earliest ones."""

    last: Point
    low: Point
    high: Point
    count: int
    not_finite: int


def summary(points: list[Point]) -> Summary | None:
    """The last, lowest and highest finite point; None where there is none."""
    finite = [point for point in points if math.isfinite(point[1])]
    if not finite:
        return None
    low = min(finite, key=lambda point: (point[1], point[0]))
    high = max(finite, key=lambda point: (point[1], -point[0]))
    return Summary(finite[-1], low, high, len(points), len(points) - len(finite))


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers that cover `low` to `high` in steps of 1, 2 or 5 times a power of ten."""
    if high - low <= 1e-9 * max(abs(low), abs(high), 1e-280):  # all alike: floating point cannot tell ticks apart
        spread = abs(low) * 0.1 or 1.0
        low, high = low - spread, high + spread
    span = high / about - low / about
    power = 10.0 ** math.floor(math.log10(span)) if span > 0 and math.isfinite(span) else 1.0
    step = next((power * times for times in (1, 2, 5) if power * times >= span * 0.999), power * 10)
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, min(last, first + 4 * about) + 1)]


def thin(points: list[Point], most: int = MAX_POINTS) -> list[Point]:
    """At most `most` points that keep every visible peak: the lowest and highest of each stretch, in order."""
    if len(points) <= most:
        return points
    stretch = math.ceil(len(points) / (most // 2))
    kept: list[Point] = []
    for start in range(0, len(points), stretch):
        piece = points[start : start + stretch]
        extremes = {piece.index(min(piece, key=_value)), piece.index(max(piece, key=_value))}
        kept += [piece[index] for index in sorted(extremes)]
    return [*kept[:-1], points[-1]] if kept[-1] != points[-1] else kept


def _value(point: Point) -> float:
    return point[1]


def line_chart(name: str, points: list[Point]) -> Markup:
    """The chart of one metric over its steps; values that are not finite are left out. Empty without any."""
    finite = sorted(point for point in points if math.isfinite(point[1]) and abs(point[1]) < 1e300)
    if not finite:
        return Markup()
    shown = thin(finite)
    levels = ticks(min(map(_value, shown)), max(map(_value, shown)))
    first, last = shown[0][0], shown[-1][0]
    steps = [step for step in ticks(first, last, 5) if first <= step <= last and step == int(step)] or [first]
    if first == last:
        steps = [first]

    def x(step: float) -> float:
        part = (step - first) / (last - first) if last > first else 0.5
        return round(LEFT + part * (WIDTH - LEFT - RIGHT), 1)

    def y(value: float) -> float:
        part = (value - levels[0]) / (levels[-1] - levels[0])
        return round(HEIGHT - BOTTOM - part * (HEIGHT - TOP - BOTTOM), 1)

    parts = [_level(y(level), number(_clean(level, levels))) for level in levels]
    parts += [_step(x(step), number(step)) for step in steps]
    path = " ".join(f"{x(step)},{y(value)}" for step, value in shown)
    floor = HEIGHT - BOTTOM
    parts.append(
        Markup('<polygon class="area" points="{},{} {} {},{}"/>').format(x(first), floor, path, x(last), floor)
    )
    parts.append(Markup('<polyline class="line" points="{}"/>').format(path))
    parts += [_dot(x(step), y(value), step, value) for step, value in shown]
    label = f"{name} over steps {first} to {last}, last value {number(finite[-1][1])}"
    return Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, HEIGHT, label, Markup("").join(parts)
    )


def _clean(level: float, levels: list[float]) -> float:
    """A tick without the dust of floating point: 0.30000000000000004 reads 0.3."""
    digits = max(0, 2 - math.floor(math.log10(levels[1] - levels[0])))
    return round(level, min(digits, 300)) + 0.0


def _level(y: float, text: str) -> Markup:
    return Markup(
        '<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>'
        '<text class="tick" x="{}" y="{}" text-anchor="end">{}</text>'
    ).format(LEFT, WIDTH - RIGHT, y, y, LEFT - 8, y + 4, text)


def _step(x: float, text: str) -> Markup:
    return Markup('<text class="tick" x="{}" y="{}" text-anchor="middle">{}</text>').format(x, HEIGHT - 8, text)


def _dot(x: float, y: float, step: int, value: float) -> Markup:
    return Markup(
        '<g class="point"><circle class="hit" cx="{}" cy="{}" r="9"/><circle class="dot" cx="{}" cy="{}" r="3.5"/>'
        "<title>step {}: {}</title></g>"
    ).format(x, y, x, y, step, escape(number(value)))
