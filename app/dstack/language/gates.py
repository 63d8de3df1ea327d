"""The grammar of `gate:` conditions on metrics: parsed into a tree and checked; what one is worth is `gate_outcome.py`.

condition = all ("or" all)*          all = not ("and" not)*        not = "not" not | comparison
comparison = sum (< <= > >= == !=) sum | "(" condition ")"
sum = product (+|- product)*         product = unit (*|/ unit)*    unit = "-" unit | number | metric | "(" sum ")"
metric = name | metric["name"] | base | base["name"] | tag("prod") | tag("prod")["name"]
base may be followed by .mean or .std: of the last runs of the base. A name with `/` or spaces is written
metric["val/loss"]. Without a name, base and tag mean the metric on the other side of the comparison.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from dstack.language.quantities import Wrong

MAX_LENGTH = 1000
MAX_DEPTH = 20
MAX_OPERATORS = 100


@dataclass(frozen=True, slots=True)
class Number:
    value: float


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric of this run; or of the base it is compared with (`part` `mean` or `std`: of the last runs of the base);
    or of the run that carries `tag`. `column` counts from 1."""

    name: str
    of_base: bool = False
    part: str = ""
    tag: str = ""
    column: int = field(default=0, compare=False)

    @property
    def is_own(self) -> bool:
        """Whether it is one of the run that is judged."""
        return not self.of_base and not self.tag


@dataclass(frozen=True, slots=True)
class Operation:
    """An operator and what it works on: arithmetic, a comparison, `and`, `or` or `not`."""

    operator: str
    operands: tuple[Gate, ...]


Gate = Number | Metric | Operation

_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+(?:\.\d*)?(?:[eE][-+]?\d+)?|\.\d+)|(?P<name>[A-Za-z_][A-Za-z0-9_.]*)"
    r"|(?P<operator><=|>=|==|!=|[-+*/<>()\[\]])|(?P<text>\"[^\"]{1,200}\"|'[^']{1,200}')|(?P<part>\.[A-Za-z_]+))"
)
COMPARISONS = ("<", "<=", ">", ">=", "==", "!=")
PARTS = ("mean", "std")
_TAG_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")
_QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'")


def parse_gate(text: str) -> Gate:
    """The tree of a condition, every metric with its name. Raises Wrong, saying where reading stopped."""
    if len(text) > MAX_LENGTH:
        raise Wrong(message=f"the condition is longer than {MAX_LENGTH} characters")
    parser = _Parser(text)
    tree = parser.condition(0)
    if parser.kind:
        raise parser.wrong()
    return tree


def check_gate(text: str) -> str:
    """The condition as written, after checking that it can be read. Raises Wrong."""
    parse_gate(text)
    return text


def metrics_in(tree: Gate) -> Iterator[Metric]:
    """All metrics of a tree, from left to right."""
    if isinstance(tree, Metric):
        yield tree
    elif isinstance(tree, Operation):
        for operand in tree.operands:
            yield from metrics_in(operand)


class _Parser:
    """Recursive descent over one text; `kind` and `token` are the token in front of it ("" at the end)."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.end = 0
        self.operators = 0
        self.advance()

    def advance(self) -> None:
        self.at = self.end
        match = _TOKEN.match(self.text, self.end)
        if match:
            self.kind, self.token, self.end = match.lastgroup or "", match[match.lastgroup or 0], match.end()
        elif self.text[self.end :].strip():
            raise self.wrong()
        else:
            self.kind, self.token = "", ""

    @property
    def column(self) -> int:
        """Where the token in front begins, counted from 1."""
        return len(self.text) - len(self.text[self.at :].lstrip()) + 1

    def wrong(self, hint: str = "") -> Wrong:
        rest = self.text[self.at :].strip()
        hint = hint or ("compare with ==" if rest.startswith("=") else "")
        hint = "write `and`, `or`" if rest.startswith(("&", "|")) else hint
        return Wrong(hint, f'cannot read "{self.text[:80]}" from "{rest[:20]}" on (column {self.column})' if rest else
                     f'"{self.text[:80]}" ends too early')  # fmt: skip

    def accept(self, *tokens: str) -> str:
        if self.token in tokens and self.kind in ("operator", "name"):
            token = self.token
            self.advance()
            return token
        return ""

    def need(self, token: str) -> None:
        if not self.accept(token):
            raise self.wrong()

    def operation(self, operator: str, *operands: Gate) -> Operation:
        self.operators += 1
        if self.operators > MAX_OPERATORS:
            raise Wrong(message=f"the condition has more than {MAX_OPERATORS} operators")
        return Operation(operator, operands)

    def condition(self, depth: int) -> Gate:
        if depth > MAX_DEPTH:
            raise Wrong(message="the condition is nested too deep")
        operands = [self.every(depth)]
        while self.accept("or"):
            operands.append(self.every(depth))
        return self.operation("or", *operands) if len(operands) > 1 else operands[0]

    def every(self, depth: int) -> Gate:
        operands = [self.negation(depth)]
        while self.accept("and"):
            operands.append(self.negation(depth))
        return self.operation("and", *operands) if len(operands) > 1 else operands[0]

    def negation(self, depth: int) -> Gate:
        if depth > MAX_DEPTH:
            raise Wrong(message="the condition is nested too deep")
        if self.accept("not"):
            return self.operation("not", self.negation(depth + 1))
        if self.token.startswith("(") and self._is_condition_in_brackets():
            self.need("(")
            inner = self.condition(depth + 1)
            self.need(")")
            return inner
        return self.comparison(depth)

    def _is_condition_in_brackets(self) -> bool:
        """Whether the bracket in front holds a comparison (a condition) rather than a sum."""
        level = 0
        for char in _QUOTED.sub("", self.text[self.end - 1 :]):
            level += (char == "(") - (char == ")")
            if char in "<>=!":
                return True
            if level == 0:
                return False
        return False

    def comparison(self, depth: int) -> Gate:
        left = self.sum(depth)
        operator = self.accept(*COMPARISONS)
        if not operator:
            raise self.wrong()
        right = self.sum(depth)
        return self.operation(operator, _named(left, right), _named(right, left))

    def sum(self, depth: int) -> Gate:
        tree = self.product(depth)
        while operator := self.accept("+", "-"):
            tree = self.operation(operator, tree, self.product(depth))
        return tree

    def product(self, depth: int) -> Gate:
        tree = self.unit(depth)
        while operator := self.accept("*", "/"):
            tree = self.operation(operator, tree, self.unit(depth))
        return tree

    def unit(self, depth: int) -> Gate:
        if depth > MAX_DEPTH:
            raise Wrong(message="the condition is nested too deep")
        if self.accept("-"):
            return self.operation("-", Number(0.0), self.unit(depth + 1))
        if self.accept("("):
            inner = self.sum(depth + 1)
            self.need(")")
            return inner
        if self.kind == "number":
            number = Number(float(self.token))
            if not math.isfinite(number.value):
                raise self.wrong("the number is too large")
            self.advance()
            return number
        return self.metric()

    def metric(self) -> Metric:
        if self.kind != "name" or self.token in ("and", "or", "not"):
            raise self.wrong()
        column, name = self.column, self.token
        word, _, part = name.partition(".")
        if word == "base" and part and part not in PARTS:
            raise self.wrong(f'write base["{part}"] for a metric of the base')
        self.advance()
        if word == "base":
            chosen = "" if part else self._chosen()
            return Metric(chosen, of_base=True, part=part or self._part(), column=column)
        if name == "tag" and self.accept("("):
            return Metric(tag=self._tag(), name=self._chosen(), column=column)
        return Metric((name == "metric" and self._chosen()) or name, column=column)

    def _chosen(self) -> str:
        """The name in brackets, empty where none stands."""
        return self._text("]") if self.accept("[") else ""

    def _text(self, closing: str) -> str:
        if self.kind != "text":
            raise self.wrong()
        text = self.token[1:-1]
        self.advance()
        self.need(closing)
        return text

    def _tag(self) -> str:
        if self.kind != "text" or not _TAG_NAME.match(self.token[1:-1]):
            raise self.wrong('name a tag of this workflow, such as tag("prod")')
        return self._text(")")

    def _part(self) -> str:
        if self.kind != "part":
            return ""
        part = self.token[1:]
        if part not in PARTS:
            raise self.wrong(f"write one of {', '.join(f'.{name}' for name in PARTS)}")
        self.advance()
        return part


def _named(tree: Gate, other: Gate) -> Gate:
    """The tree with names for a base or tag that has none: the one metric of the other side, else of its own."""
    if isinstance(tree, Operation):
        sides = [{m.name for m in metrics_in(side) if m.name} for side in (other, tree)]
        return _with_name(tree, sides[0] or sides[1])
    return _with_name(tree, {m.name for m in metrics_in(other) if m.name})


def _with_name(tree: Gate, names: set[str]) -> Gate:
    if isinstance(tree, Operation):
        return replace(tree, operands=tuple(_with_name(operand, names) for operand in tree.operands))
    if not isinstance(tree, Metric) or tree.name:
        return tree
    if len(names) == 1:
        return replace(tree, name=next(iter(names)))
    side = f'tag("{tree.tag}")' if tree.tag else "base"
    raise Wrong(f'name it, such as {side}["accuracy"]', f"{side} of which metric? (column {tree.column})")
