"""What a gate's condition is worth on given numbers, and why in words; where the numbers come from is left to others.

Answers are ordered: `and` takes the lowest of its parts, `or` the highest, so a part that cannot be told yet matters
only where the others do not decide alone.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from dstack.language.gates import COMPARISONS, Gate, Metric, Number, Operation, metrics_in

Metrics = Mapping[str, float]
NOISE_FROM = 3  # so many runs of the base tell its noise

_CLOSE = 1e-12  # 0.922 - 0.01 is not told apart from 0.912
_OPPOSITE = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "==": "!=", "!=": "=="}
_HOLDS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip
_ARITHMETIC: dict[str, Callable[[float, float], float]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv,
}  # fmt: skip
_BINDS = {"+": 1, "-": 1, "*": 2, "/": 2}
_DIGITS = (4, 6, 9, 17)


class Answer(IntEnum):
    """From `no` to `yes`; what lies between cannot be told, or hangs on chance."""

    NO = 0
    BROKEN = 1  # the run is at fault: it lacks a metric, or the arithmetic cannot be done
    AWAITED = 2  # hangs on a base that still trains
    UNKNOWN = 3  # hangs on a base or a tag that is not there
    NOISE = 4  # holds, or not, by less than runs of the base differ among themselves
    YES = 5


@dataclass(frozen=True, slots=True)
class Outcome:
    """`why` are facts that decided, such as `accuracy 0.934 >= base 0.922 - 0.01`."""

    answer: Answer
    why: str


@dataclass(frozen=True, slots=True)
class Values:
    """Numbers to judge by. `base` None: there is none, or it still trains (`base_awaited`). `history` are the last runs
    of the base, the newest first; `tags` those runs that carry a tag, as far as there are."""

    run: Metrics
    base: Metrics | None = None
    base_name: str = ""
    base_awaited: bool = False
    history: Sequence[Metrics] = ()
    tags: Mapping[str, Metrics] = field(default_factory=dict)

    def past(self, name: str) -> list[float]:
        """What the last runs of the base had of a metric."""
        return [metrics[name] for metrics in self.history if name in metrics]


def evaluate(tree: Gate, values: Values) -> Outcome:
    """The worth of a condition. Never raises for numbers, however odd."""
    assert isinstance(tree, Operation), "conditions come from parse_gate"
    if tree.operator in COMPARISONS:
        return _compare(tree, values)
    parts = [evaluate(operand, values) for operand in tree.operands]
    if tree.operator == "not":
        return Outcome(_NEGATED.get(parts[0].answer, parts[0].answer), parts[0].why)
    deciding = (min if tree.operator == "and" else max)(part.answer for part in parts)
    return Outcome(deciding, " and ".join(dict.fromkeys(part.why for part in parts if part.answer is deciding)))


_NEGATED = {Answer.NO: Answer.YES, Answer.YES: Answer.NO}


def _compare(tree: Operation, values: Values) -> Outcome:
    missing = [found for metric in metrics_in(tree) if (found := _missing(metric, values))]
    if missing:
        return min(missing, key=lambda outcome: outcome.answer)
    numbers = {metric: _value(metric, values) for metric in metrics_in(tree)}
    sides = _sides(tree, numbers)
    if sides is None:
        return Outcome(Answer.BROKEN, f"{_render(tree, _say(numbers, _DIGITS[0]))} cannot be calculated")
    holds = _holds(tree.operator, *sides)
    fact = _fact(tree, numbers, holds=holds)
    band = _noise(tree, values)
    if abs(sides[0] - sides[1]) < band:
        return Outcome(Answer.NOISE, f"{fact}, within the noise of the base ({_number(band, 2)})")
    return Outcome(Answer.YES if holds else Answer.NO, fact)


def _missing(metric: Metric, values: Values) -> Outcome | None:
    """Why a number is not there; None when it is."""
    name = metric.name
    if metric.is_own:
        found = None if name in values.run else Outcome(Answer.BROKEN, f"the run has no metric {name}")
    elif metric.tag:
        tagged = values.tags.get(metric.tag)
        said = f"no run carries the tag {metric.tag} yet" if tagged is None else f"tag {metric.tag} has no {name}"
        found = None if tagged is not None and name in tagged else Outcome(Answer.UNKNOWN, said)
    elif values.base_awaited:
        found = Outcome(Answer.AWAITED, f"base {values.base_name} still runs")
    elif values.base is None:
        found = Outcome(Answer.UNKNOWN, "first result")
    elif metric.part == "std" and len(values.past(name)) < NOISE_FROM:
        found = Outcome(Answer.UNKNOWN, f"base.std needs {NOISE_FROM} runs of the base, {len(values.past(name))} there")
    elif name not in values.base and not (metric.part and values.past(name)):
        found = Outcome(Answer.UNKNOWN, f"base {values.base_name} has no metric {name}")
    else:
        found = None
    return found


def _value(metric: Metric, values: Values) -> float:
    if metric.is_own:
        return values.run[metric.name]
    if metric.tag:
        return values.tags[metric.tag][metric.name]
    if not metric.part:
        assert values.base is not None
        return values.base[metric.name]
    past = values.past(metric.name) or [(values.base or {})[metric.name]]
    return _mean(past) if metric.part == "mean" else spread(past)


def _sides(tree: Operation, numbers: Mapping[Metric, float]) -> tuple[float, float] | None:
    """What both sides of a comparison come to; None when that is no finite number."""
    try:
        left, right = (_calculate(operand, numbers) for operand in tree.operands)
    except (ZeroDivisionError, OverflowError):
        return None
    return (left, right) if math.isfinite(left) and math.isfinite(right) else None


def _calculate(tree: Gate, numbers: Mapping[Metric, float]) -> float:
    if isinstance(tree, Number):
        return tree.value
    if isinstance(tree, Metric):
        return numbers[tree]
    left, right = (_calculate(operand, numbers) for operand in tree.operands)
    return _ARITHMETIC[tree.operator](left, right)


def _holds(comparison: str, left: float, right: float) -> bool:
    if math.isclose(left, right, rel_tol=_CLOSE):
        return comparison in ("<=", ">=", "==")
    return _HOLDS[comparison](left, right)


def _noise(tree: Operation, values: Values) -> float:
    """How much the two sides would differ by chance: each of the last runs of the base in its place. None is granted to
    a fixed bar, nor where the condition reckons with base.std itself."""
    metrics = list(metrics_in(tree))
    others = [metric for metric in metrics if not metric.is_own]
    if not others or any(metric.part == "std" for metric in metrics):
        return 0.0
    apart: list[float] = []
    for past in values.history:
        if all(metric.name in past for metric in others):
            numbers = {m: values.run[m.name] if m.is_own else past[m.name] for m in metrics}
            sides = _sides(tree, numbers)
            apart += [sides[0] - sides[1]] if sides else []
    return spread(apart) if len(apart) >= NOISE_FROM else 0.0


def _mean(numbers: Sequence[float]) -> float:
    return sum(number / len(numbers) for number in numbers)


def spread(numbers: Sequence[float]) -> float:
    """The standard deviation of a sample; 0 where the numbers differ by rounding alone."""
    if len(numbers) < 2 or max(numbers) - min(numbers) <= 1e-9 * max(map(abs, numbers)):
        return 0.0
    mean = _mean(numbers)
    found = math.hypot(*(number - mean for number in numbers)) / math.sqrt(len(numbers) - 1)
    return found if math.isfinite(found) else 0.0


def _fact(tree: Operation, numbers: Mapping[Metric, float], *, holds: bool) -> str:
    """The comparison as it turned out, with as many digits as show that."""
    said = tree if holds else Operation(_OPPOSITE[tree.operator], tree.operands)
    order = _order(_sides(tree, numbers))
    for digits in _DIGITS:
        if _order(_sides(tree, {m: float(f"{number:.{digits}g}") for m, number in numbers.items()})) == order:
            break
    return _render(said, _say(numbers, digits))


def _order(sides: tuple[float, float] | None) -> tuple[bool, bool] | None:
    return None if sides is None else (_holds("<", *sides), _holds(">", *sides))


def _say(numbers: Mapping[Metric, float], digits: int) -> Callable[[Metric], str]:
    own = {metric.name for metric in numbers if metric.is_own}
    return lambda metric: f"{_label(metric, own)} {_number(numbers[metric], digits)}"


def _label(metric: Metric, own: Iterable[str]) -> str:
    if metric.is_own:
        return metric.name
    side = f"tag {metric.tag}" if metric.tag else f"base.{metric.part}" if metric.part else "base"
    return side if metric.name in own else f"{side} {metric.name}"


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}g}"


def _render(tree: Gate, say: Callable[[Metric], str], binds: int = 0) -> str:
    """A comparison or sum as text; brackets where it would be read otherwise."""
    if isinstance(tree, Number):
        return _number(tree.value, 15)
    if isinstance(tree, Metric):
        return say(tree)
    left, right = tree.operands
    if tree.operator == "-" and left == Number(0.0):
        return f"-{_render(right, say, 3)}"
    mine = _BINDS.get(tree.operator, 0)
    text = f"{_render(left, say, mine)} {tree.operator} {_render(right, say, mine + 1)}"
    return f"({text})" if mine < binds else text
