"""What a condition is worth, and the words for it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dstack.language.gate_outcome import Answer, Outcome, Values, evaluate, spread
from dstack.language.gates import parse_gate
from dstack.language.quantities import Wrong

RUN = {"accuracy": 0.934, "val/loss": 0.31, "zero": 0.0}
BASE = {"accuracy": 0.922, "val/loss": 0.4, "old": 1.0}
HISTORY = tuple({"accuracy": value} for value in (0.922, 0.926, 0.918, 0.924, 0.92))  # spread 0.0032
WITH_BASE = Values(RUN, BASE, "brave-otter-17")


def outcome(text: str, values: Values = WITH_BASE) -> Outcome:
    return evaluate(parse_gate(text), values)


@pytest.mark.parametrize(
    ("text", "answer", "why"),
    [
        ("accuracy >= base - 0.01", Answer.YES, "accuracy 0.934 >= base 0.922 - 0.01"),
        ("accuracy >= base + 0.02", Answer.NO, "accuracy 0.934 < base 0.922 + 0.02"),
        ("accuracy == 0.934", Answer.YES, "accuracy 0.934 == 0.934"),
        ("accuracy != 0.934", Answer.NO, "accuracy 0.934 == 0.934"),
        ("accuracy > 0.9340001", Answer.NO, "accuracy 0.934 <= 0.9340001"),
        ('metric["val/loss"] < base["val/loss"] * 0.9', Answer.YES, "val/loss 0.31 < base 0.4 * 0.9"),
        ('accuracy > base["val/loss"]', Answer.YES, "accuracy 0.934 > base val/loss 0.4"),
        ("accuracy > 2 * (base - 1)", Answer.YES, "accuracy 0.934 > 2 * (base 0.922 - 1)"),
        ("-accuracy > -(base - 1)", Answer.NO, "-accuracy 0.934 <= -(base 0.922 - 1)"),
        ("accuracy - base >= 0.012", Answer.YES, "accuracy 0.934 - base 0.922 >= 0.012"),
        ("accuracy > 0.5 and zero > 1", Answer.NO, "zero 0 <= 1"),
        ("accuracy > 0.5 and zero < 1", Answer.YES, "accuracy 0.934 > 0.5 and zero 0 < 1"),
        ("accuracy > 0.99 or zero > 1", Answer.NO, "accuracy 0.934 <= 0.99 and zero 0 <= 1"),
        ("accuracy > 0.5 or zero > 1", Answer.YES, "accuracy 0.934 > 0.5"),
        ("not zero > 1", Answer.YES, "zero 0 <= 1"),
        ("not accuracy > 0.5", Answer.NO, "accuracy 0.934 > 0.5"),
        ("f1 > 0.5", Answer.BROKEN, "the run has no metric f1"),
        ("not f1 > 0.5", Answer.BROKEN, "the run has no metric f1"),
        ("f1 > 0.5 or accuracy > 0.5", Answer.YES, "accuracy 0.934 > 0.5"),
        ("accuracy / zero > 1", Answer.BROKEN, "accuracy 0.934 / zero 0 > 1 cannot be calculated"),
        ("accuracy * 1e308 * 1e308 > 1", Answer.BROKEN, "accuracy 0.934 * 1e+308 * 1e+308 > 1 cannot be calculated"),
        ("zero >= base", Answer.UNKNOWN, "base brave-otter-17 has no metric zero"),
        ('accuracy >= tag("prod")', Answer.UNKNOWN, "no run carries the tag prod yet"),
    ],
)  # fmt: skip
def test_a_condition_has_an_answer_and_the_facts_that_decided(text: str, answer: Answer, why: str) -> None:
    assert outcome(text) == Outcome(answer, why)


@pytest.mark.parametrize(
    ("accuracy", "why"),
    [(0.92196, "accuracy 0.92196 < base 0.922"), (0.92204, "accuracy 0.92204 >= base 0.922"),
     (0.922, "accuracy 0.922 >= base 0.922")],
)  # fmt: skip
def test_as_many_digits_are_shown_as_tell_the_numbers_apart(accuracy: float, why: str) -> None:
    assert outcome("accuracy >= base", Values({"accuracy": accuracy}, BASE)).why == why


def test_a_bar_is_met_by_what_equals_it_but_for_rounding() -> None:
    assert outcome("x >= base - 0.1", Values({"x": 0.2}, {"x": 0.3})).answer is Answer.YES  # 0.3 - 0.1 < 0.2 in floats
    assert outcome("x < base - 0.1", Values({"x": 0.3 - 0.1}, {"x": 0.3})).answer is Answer.NO


@pytest.mark.parametrize(
    ("text", "values", "answer", "why"),
    [
        ("accuracy >= base", Values(RUN), Answer.UNKNOWN, "first result"),
        ("accuracy >= base.mean", Values(RUN), Answer.UNKNOWN, "first result"),
        ("accuracy > 0.9", Values(RUN), Answer.YES, "accuracy 0.934 > 0.9"),
        ("accuracy > 0.99 and accuracy >= base", Values(RUN), Answer.NO, "accuracy 0.934 <= 0.99"),
        ("accuracy > 0.9 and accuracy >= base", Values(RUN), Answer.UNKNOWN, "first result"),
        ("not (zero < zero and zero < base)", Values(RUN), Answer.YES, "zero 0 >= zero 0"),  # whatever the base is
        ("f1 >= base", Values(RUN), Answer.BROKEN, "the run has no metric f1"),
        ("accuracy >= base", Values(RUN, None, "calm-fox-3", base_awaited=True), Answer.AWAITED,
         "base calm-fox-3 still runs"),
        ("accuracy > 0.99 and accuracy > base", Values(RUN, base_awaited=True), Answer.NO, "accuracy 0.934 <= 0.99"),
        ("accuracy > 0.9 or accuracy > base", Values(RUN, base_awaited=True), Answer.YES, "accuracy 0.934 > 0.9"),
        ("f1 >= base", Values(RUN, base_awaited=True), Answer.BROKEN, "the run has no metric f1"),
        ('accuracy >= tag("prod")', Values(RUN, tags={"prod": BASE}, base_awaited=True), Answer.YES,
         "accuracy 0.934 >= tag prod 0.922"),
        ('accuracy >= tag("prod")["old"]', Values(RUN, tags={"prod": BASE}), Answer.NO,
         "accuracy 0.934 < tag prod old 1"),
        ('accuracy >= tag("prod")["new"]', Values(RUN, tags={"prod": BASE}), Answer.UNKNOWN, "tag prod has no new"),
    ],
)  # fmt: skip
def test_what_is_not_there_matters_where_the_rest_does_not_decide(
    text: str, values: Values, answer: Answer, why: str
) -> None:
    assert outcome(text, values) == Outcome(answer, why)


def with_history(accuracy: float, count: int = 5) -> Values:
    return Values({"accuracy": accuracy, "f1": 1.0}, HISTORY[0], "b", history=HISTORY[:count])


@pytest.mark.parametrize(
    ("text", "values", "answer"),
    [
        ("accuracy >= base - 0.01", with_history(0.911), Answer.NOISE),  # misses by 0.001
        ("accuracy >= base - 0.01", with_history(0.913), Answer.NOISE),  # passes by 0.001
        ("accuracy >= base - 0.01", with_history(0.908), Answer.NO),
        ("accuracy >= base - 0.01", with_history(0.916), Answer.YES),
        ("accuracy >= base - 0.01", with_history(0.911, 2), Answer.NO),  # two runs tell no noise
        ("accuracy >= base.mean - 0.01", with_history(0.911), Answer.NOISE),
        ("accuracy >= 0.912", with_history(0.911), Answer.NO),  # a fixed bar is one
        ("accuracy >= base.mean - 2 * base.std", with_history(0.9155), Answer.NO),  # reckons with noise itself
        ("accuracy >= base.mean - 2 * base.std", with_history(0.916), Answer.YES),
        ("accuracy >= base.mean - 2 * base.std", with_history(0.916, 2), Answer.UNKNOWN),
        ("accuracy >= 1.01 * base", with_history(0.93), Answer.NOISE),
        ("not accuracy >= base - 0.01", with_history(0.911), Answer.NOISE),
        ("accuracy >= base - 0.01 and f1 > 2", with_history(0.911), Answer.NO),
        ("accuracy >= base - 0.01 or f1 > 2", with_history(0.911), Answer.NOISE),
    ],
)
def test_a_difference_below_the_noise_of_the_base_decides_nothing(text: str, values: Values, answer: Answer) -> None:
    assert outcome(text, values).answer is answer


def test_noise_is_told_in_numbers() -> None:
    why = "accuracy 0.911 < base 0.922 - 0.01, within the noise of the base (0.0032)"
    assert outcome("accuracy >= base - 0.01", with_history(0.911)).why == why
    assert outcome("accuracy >= base.mean - base.std", with_history(0.93)).why == (
        "accuracy 0.93 >= base.mean 0.922 - base.std 0.003162"
    )
    assert outcome("accuracy >= base.std", with_history(0.93, 1)).why == "base.std needs 3 runs of the base, 1 there"


def test_a_base_that_always_gives_the_same_has_no_noise() -> None:
    same = tuple({"accuracy": 0.9} for _ in range(5))
    assert outcome("accuracy >= base", Values({"accuracy": 0.9}, same[0], history=same)).answer is Answer.YES
    assert spread([0.1 + 0.2, 0.3, 0.3]) == 0.0
    assert spread([1.0]) == 0.0
    assert spread([1.0, 3.0]) == pytest.approx(2**0.5)


NUMBERS = st.floats(allow_nan=True, allow_infinity=True)
METRICS = st.dictionaries(st.sampled_from(["a", "b", "c"]), NUMBERS, max_size=3)
LEAVES = st.sampled_from(
    ["a", "b", "base", 'base["b"]', "base.mean", "base.std", 'tag("prod")', 'tag("none")["a"]', "0", "1e300", "0.5"]
)
SUMS = st.recursive(
    LEAVES,
    lambda inner: st.tuples(inner, st.sampled_from("+-*/"), inner).map(lambda t: f"({' '.join(t)})"),
    max_leaves=6,
)
COMPARED = st.tuples(SUMS, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), SUMS).map(" ".join)
CONDITIONS = st.recursive(
    COMPARED,
    lambda inner: (
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda t: f"({' '.join(t)})")
        | inner.map(lambda text: f"not ({text})")
    ),
    max_leaves=4,
)


@settings(max_examples=400, deadline=None)
@given(
    CONDITIONS, METRICS, st.none() | METRICS, st.booleans(), st.lists(METRICS, max_size=5),
    st.dictionaries(st.just("prod"), METRICS),
)  # fmt: skip
def test_no_numbers_make_it_crash(
    text: str,
    run: dict[str, float],
    base: dict[str, float] | None,
    awaited: bool,
    history: list[dict[str, float]],
    tags: dict[str, dict[str, float]],
) -> None:
    try:
        tree = parse_gate(text)
    except Wrong:
        return
    found = evaluate(tree, Values(run, base, "b", awaited, history, tags))
    assert found.why
    # Where one part is false whatever the base is, `not` of both parts together is true without it.
    decided = " or " in text or ("not" in text and " and " in text)
    if base is None and not awaited and "base" in text and "tag" not in text and not decided:
        assert found.answer is not Answer.YES
