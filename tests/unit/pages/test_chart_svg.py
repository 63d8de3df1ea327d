"""Charts are well-formed SVG whatever the numbers and names are."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dstack.server.web.render.badge import badge
from dstack.server.web.render.chart import HEIGHT, WIDTH, Summary, line_chart, summary, thin, ticks

INF, NAN = math.inf, math.nan


def parse(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0, 10, [0, 2, 4, 6, 8, 10]),
        (0.93, 0.952, [0.93, 0.935, 0.94, 0.945, 0.95, 0.955]),
        (-3, 3, [-4, -2, 0, 2, 4]),
        (0, 1200, [0, 500, 1000, 1500]),
    ],
)
def test_ticks_are_round_and_cover(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected)


@given(st.floats(-1e200, 1e200), st.floats(-1e200, 1e200))
def test_ticks_are_few_and_rise(one: float, other: float) -> None:
    levels = ticks(min(one, other), max(one, other))
    assert 2 <= len(levels) <= 25
    assert all(math.isfinite(level) for level in levels)


def test_a_chart_has_axes_ticks_a_line_and_a_title_on_every_point() -> None:
    svg = parse(line_chart("loss", [(1, 2.5), (2, 1.5), (3, 0.5)]))
    assert svg.attrib["viewBox"] == f"0 0 {WIDTH} {HEIGHT}"
    assert svg.attrib["aria-label"] == "loss over steps 1 to 3, last value 0.5"
    assert [title.text for title in svg.iter("title")] == ["step 1: 2.5", "step 2: 1.5", "step 3: 0.5"]
    line = next(svg.iter("polyline")).attrib["points"].split()
    heights = [float(point.split(",")[1]) for point in line]
    assert heights == sorted(heights)  # a falling loss goes down the page
    assert {"2.5", "1", "3"} <= {text.text for text in svg.iter("text")}


@pytest.mark.parametrize(
    "points",
    [
        [(5, 1.0)],
        [(0, 0.0), (1, 0.0)],
        [(1, NAN), (2, 1.0), (3, INF), (4, -INF)],
        [(-5, -1e-12), (10**12, 1e-12)],
        [(1, 1e299), (2, -1e299)],
        [(3, 1.0), (1, 2.0), (2, 3.0)],
        [(1, 1.0), (1, 2.0)],
        [(1, 5e-324), (2, 1e-323)],
        [(1, 0.1 + 0.2), (2, math.nextafter(0.1 + 0.2, 1))],
    ],
)
def test_odd_numbers_draw_inside_the_picture(points: list[tuple[int, float]]) -> None:
    svg = parse(line_chart("m", points))
    for circle in svg.iter("circle"):
        assert 0 <= float(circle.attrib["cx"]) <= WIDTH
        assert 0 <= float(circle.attrib["cy"]) <= HEIGHT


def test_nothing_finite_draws_nothing() -> None:
    assert line_chart("m", []) == ""
    assert line_chart("m", [(1, NAN), (2, INF)]) == ""
    assert summary([(1, NAN)]) is None


def test_a_hostile_name_is_text_and_nothing_is_styled_inline() -> None:
    svg = line_chart('"><script>alert(1)</script>', [(1, 1.0), (2, 2.0)])
    assert not list(parse(svg).iter("script"))
    assert not re.search(r"style=|\son\w+=", svg)


def test_many_points_are_thinned_and_keep_their_peaks() -> None:
    points = [(step, math.sin(step / 500)) for step in range(100_000)]
    points[50_001] = (50_001, 99.0)
    points[70_003] = (70_003, -99.0)
    few = thin(points)
    assert len(few) <= 242
    assert points[50_001] in few and points[70_003] in few and few[-1] == points[-1]
    assert [step for step, _ in few] == sorted(step for step, _ in few)


def test_summary_names_the_first_extremes() -> None:
    points = [(1, 3.0), (2, 1.0), (3, 1.0), (4, 3.0), (5, NAN), (6, 2.0)]
    assert summary(points) == Summary(last=(6, 2.0), low=(2, 1.0), high=(1, 3.0), count=6, not_finite=1)


@pytest.mark.parametrize(
    ("workflow", "state", "label"),
    [
        ("train", "succeeded", "train: succeeded"),
        ("", "failed", "dstack: failed"),
        ("train", "", "train: unknown"),
        ("train", "no-such", "train: unknown"),
        ('x"><script>', "running", 'x"><script>: running'),
        ("a\u202eb\x00c", "queued", "abc: queued"),
        ("w" * 500, "queued", "w" * 39 + "…: queued"),
    ],
)
def test_a_badge(workflow: str, state: str, label: str) -> None:
    svg = parse(badge(workflow, state))
    assert svg.attrib["aria-label"] == label
    assert {element.tag.rpartition("}")[2] for element in svg.iter()} == {
        "svg",
        "title",
        "clipPath",
        "rect",
        "g",
        "text",
    }
