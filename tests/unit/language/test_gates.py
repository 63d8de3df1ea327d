"""The grammar of gates: what a condition is read as."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dstack.language.gates import Gate, Metric, Number, Operation, parse_gate
from dstack.language.quantities import Wrong

ACCURACY, BASE = Metric("accuracy"), Metric(None, of_base=True)


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("accuracy >= 0.9", Operation(">=", (ACCURACY, Number(0.9)))),
        ("accuracy >= base - 0.01", Operation(">=", (ACCURACY, Operation("-", (BASE, Number(0.01)))))),
        ('metric["v/l"] < base["v/l"]', Operation("<", (Metric("v/l"), Metric("v/l", of_base=True)))),
        ("a > 1 and b > 2 or c > 3", Operation("or", (
            Operation("and", (Operation(">", (Metric("a"), Number(1))), Operation(">", (Metric("b"), Number(2))))),
            Operation(">", (Metric("c"), Number(3))),
        ))),
        ("not (a > 1)", Operation("not", (Operation(">", (Metric("a"), Number(1))),))),
        ("(a + 1) * 2 > 3", Operation(">", (
            Operation("*", (Operation("+", (Metric("a"), Number(1))), Number(2))), Number(3)))),
        ("a - 1 - 2 > -1e-3", Operation(">", (
            Operation("-", (Operation("-", (Metric("a"), Number(1))), Number(2))),
            Operation("-", (Number(0), Number(1e-3)))))),
        ("val.loss <= .5", Operation("<=", (Metric("val.loss"), Number(0.5)))),
    ],
)  # fmt: skip
def test_conditions_are_read_by_the_usual_rules(text: str, tree: Gate) -> None:
    assert parse_gate(text) == tree


@pytest.mark.parametrize(
    "text",
    [
        "", "accuracy", "a > b > c", "a >", "> 1", "a = 1", "a > 1 and", "a > (1", "a b", "base[1] > 2", "a > 1; b",
        "__import__('os')", "a > 1 or or b > 1", "not", "(" * 500, "-" * 900 + "1 > 0", "a" * 1001 + " > 1",
    ],
)  # fmt: skip
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(Wrong):
        parse_gate(text)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from(["a", "1", "(", ")", "and", "or", "not", ">", "-", "base", "[", '"x"', "]"]), max_size=20)
)
def test_no_text_makes_it_fail_otherwise(words: list[str]) -> None:
    try:
        parse_gate(" ".join(words))
    except Wrong as wrong:
        assert str(wrong)
