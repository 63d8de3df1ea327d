"""A metric as a chart that GitHub's Mermaid draws: few ticks, plain numbers, quoted titles."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dstack.server.report.chart import MOST_TICKS, has_base_line, metric_chart

NUMBER = r"-?\d+(?:\.\d+)?"
GRAMMAR = re.compile(
    r"```mermaid\n%%\{init: .*\}%%\nxychart-beta\n"
    r'    title "[\w ./:()+=-]{1,60}"\n'
    r'    x-axis "step" \[(?P<steps>\d+(?:, \d+)*)\]\n'
    rf'    y-axis "[\w ./:()+=-]{{1,60}}" (?P<low>{NUMBER}) --> (?P<high>{NUMBER})\n'
    rf"(?P<lines>(?:    line \[{NUMBER}(?:, {NUMBER})*\]\n){{1,2}})```"
)
POINTS = st.lists(st.tuples(st.integers(-5, 10**9), st.floats()), max_size=200)


@given(st.text(max_size=80), POINTS, POINTS)
def test_every_chart_is_one_that_the_grammar_knows(
    name: str, points: list[tuple[int, float]], base: list[tuple[int, float]]
) -> None:
    text = metric_chart(name, points, base)
    usable = {step for step, value in points if step >= 0 and abs(value) < 1e12}
    assert bool(text) == (len(usable) >= 2)
    if text:
        found = GRAMMAR.fullmatch(text)
        assert found is not None, text
        steps = [int(step) for step in found["steps"].split(", ")]
        assert len(steps) <= MOST_TICKS and steps == sorted(set(steps))
        assert steps[0] == min(usable) and steps[-1] == max(usable)
        for line in found["lines"].splitlines():
            assert line.count(",") == len(steps) - 1
        assert float(found["low"]) < float(found["high"])


def test_the_base_is_shown_over_the_steps_of_the_pull_request() -> None:
    text = metric_chart("loss", [(0, 1.0), (10, 0.5)], [(step, step / 100) for step in range(0, 100, 5)])
    assert 'x-axis "step" [0, 10]' in text
    assert "line [1, 0.5]\n    line [0, 0.1]" in text and has_base_line(text)


def test_a_base_that_never_reached_these_steps_is_left_out() -> None:
    assert not has_base_line(metric_chart("loss", [(100, 1.0), (200, 0.5)], [(0, 1.0), (10, 0.4)]))
    assert not has_base_line(metric_chart("loss", [(0, 1.0), (1, 0.5)], [(5, 1.0), (10, 0.4)]))
    assert not has_base_line(metric_chart("loss", [(0, 1.0), (1, 0.5)], [(0, math.nan)]))


@pytest.mark.parametrize(
    ("value", "written"),
    [(1e-7, "0.0000001"), (-2.5, "-2.5"), (123456789.0, "123457000"), (0.1 + 0.2, "0.3"), (1e-300, "0")],
)
def test_numbers_have_no_exponent(value: float, written: str) -> None:
    assert f"line [{written}, 0]" in metric_chart("x", [(0, value), (1, 0.0)])


def test_long_steps_get_fewer_ticks() -> None:
    text = metric_chart("x", [(1_000_000 + step, 1.0) for step in range(1000)])
    assert text.count(",", text.index("x-axis"), text.index("y-axis")) + 1 == 10


def test_what_mermaid_would_read_is_left_out_of_titles() -> None:
    assert 'title "evil init"' in metric_chart('evil" %%{init}%%;`#', [(0, 1.0), (1, 2.0)])
    assert 'title "metric"' in metric_chart('"', [(0, 1.0), (1, 2.0)])
