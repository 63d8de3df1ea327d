"""The grammar of gates: what a condition is read as."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dstack.language.gates import Gate, Metric, Number, Operation, parse_gate
from dstack.language.quantities import Wrong

ACCURACY, BASE = Metric("accuracy"), Metric("accuracy", of_base=True)


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("accuracy >= 0.9", Operation(">=", (ACCURACY, Number(0.9)))),
        ("accuracy >= base - 0.01", Operation(">=", (ACCURACY, Operation("-", (BASE, Number(0.01)))))),
        ("base - accuracy < 1", Operation("<", (Operation("-", (BASE, ACCURACY)), Number(1)))),
        ('metric["v/l"] < base["v/l"]', Operation("<", (Metric("v/l"), Metric("v/l", of_base=True)))),
        ('auc >= tag("prod") - 0.002', Operation(">=", (
            Metric("auc"), Operation("-", (Metric("auc", tag="prod"), Number(0.002)))))),
        ("tag('v1.0')[\"a b\"] > 1", Operation(">", (Metric("a b", tag="v1.0"), Number(1)))),
        ("accuracy > base.mean - 2 * base.std", Operation(">", (ACCURACY, Operation("-", (
            Metric("accuracy", of_base=True, part="mean"),
            Operation("*", (Number(2), Metric("accuracy", of_base=True, part="std")))))))),
        ('x < base["v/l"].mean', Operation("<", (Metric("x"), Metric("v/l", of_base=True, part="mean")))),
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
        ('(metric["a<b"] + 1) > 2', Operation(">", (Operation("+", (Metric("a<b"), Number(1))), Number(2)))),
        ("val.loss <= .5", Operation("<=", (Metric("val.loss"), Number(0.5)))),
        ("tag + metric > 1", Operation(">", (Operation("+", (Metric("tag"), Metric("metric"))), Number(1)))),
    ],
)  # fmt: skip
def test_conditions_are_read_by_the_usual_rules(text: str, tree: Gate) -> None:
    assert parse_gate(text) == tree


@pytest.mark.parametrize(
    "text",
    [
        "", "accuracy", "a > b > c", "a >", "> 1", "a = 1", "a > 1 and", "a > (1", "a b", "base[1] > 2", "a > 1; b",
        "__import__('os')", "a > 1 or or b > 1", "not", "(" * 500, "-" * 900 + "1 > 0", "a" * 1001 + " > 1",
        "a > base.max", 'a > base["a"].max', "a > tag(prod)", "a > tag()", 'a > tag("")', 'a > tag("../x")',
        'a > tag("prod").mean', "a > tag('a', 'b')", "a > 1e999", "a" + " + 1" * 101 + " > 0", 'base"a" > 1',
    ],
)  # fmt: skip
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(Wrong):
        parse_gate(text)


@pytest.mark.parametrize(
    ("text", "message", "suggestion"),
    [
        ("a > 1)", '"a > 1)" from ")" on (column 6)', ""),
        ("a >  base.max", "column 6", 'write base["max"] for a metric of the base'),
        ('a > base["b"].max', "column 14", "write one of .mean, .std"),
        ("a > 1 and base > 0.5", "base of which metric? (column 11)", 'name it, such as base["accuracy"]'),
        ("a + b >  base", "base of which metric? (column 10)", 'name it, such as base["accuracy"]'),
        ('tag("prod") > 1', "tag(\"prod\") of which metric? (column 1)", 'name it, such as tag("prod")["accuracy"]'),
        ('a > tag("a/b")', "column 9", 'name a tag of this workflow, such as tag("prod")'),
        ("a > tag(prod)", "column 9", 'name a tag of this workflow, such as tag("prod")'),
        ("a > 1 && b > 1", "column 7", "write `and`, `or`"),
    ],
)  # fmt: skip
def test_a_refusal_names_the_column_and_what_to_write(text: str, message: str, suggestion: str) -> None:
    with pytest.raises(Wrong) as raised:
        parse_gate(text)
    assert message in raised.value.message
    assert raised.value.suggestion == suggestion


PIECES = ["a", "1", "(", ")", "and", "or", "not", ">", "-", "base", "[", '"x"', "]", "tag", ".mean", "base.std"]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=20))
def test_no_text_makes_it_fail_otherwise(words: list[str]) -> None:
    try:
        parse_gate(" ".join(words))
    except Wrong as wrong:
        assert str(wrong)
