"""The grammar of `gate:` conditions on metrics: parsed into a tree and checked; judging one is left to the server.

condition = all ("or" all)*          all = not ("and" not)*        not = "not" not | comparison
comparison = sum (< <= > >= == !=) sum | "(" condition ")"
sum = product (+|- product)*         product = unit (*|/ unit)*    unit = "-" unit | number | metric | "(" sum ")"
metric = name | base | base["name"] | metric["name"]        a name with `/` or spaces is written metric["val/loss"]
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from dstack.language.quantities import Wrong

MAX_LENGTH = 1000
MAX_DEPTH = 20


@dataclass(frozen=True, slots=True)
class Number:
    value: float


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric of this run, or of the base it is compared with; `name` None: the same metric as on the other side."""

    name: str | None
    of_base: bool = False


@dataclass(frozen=True, slots=True)
class Operation:
    """An operator and what it works on: arithmetic, a comparison, `and`, `or` or `not`."""

    operator: str
    operands: tuple[Gate, ...]


Gate = Number | Metric | Operation

_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+(?:\.\d*)?(?:[eE][-+]?\d+)?|\.\d+)|(?P<name>[A-Za-z_][A-Za-z0-9_.]*)"
    r"|(?P<operator><=|>=|==|!=|[-+*/<>()\[\]])|(?P<text>\"[^\"]{1,200}\"|'[^']{1,200}'))"
)
_COMPARISONS = ("<", "<=", ">", ">=", "==", "!=")


def parse_gate(text: str) -> Gate:
    """The tree of a condition. Raises Wrong, saying where reading stopped."""
    if len(text) > MAX_LENGTH:
        raise Wrong(message=f"the condition is longer than {MAX_LENGTH} characters")
    parser = _Parser(text)
    tree = parser.condition(0)
    if parser.kind:
        raise parser.wrong()
    return tree


class _Parser:
    """Recursive descent over one text; `kind` and `token` are the token in front of it ("" at the end)."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.end = 0
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

    def wrong(self) -> Wrong:
        rest = self.text[self.at :].strip()
        hint = "compare with ==" if rest.startswith("=") else ""
        hint = "write `and`, `or`" if rest.startswith(("&", "|")) else hint
        return Wrong(hint, f'cannot read "{self.text[:80]}" from "{rest[:20]}" on' if rest else
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

    def condition(self, depth: int) -> Gate:
        if depth > MAX_DEPTH:
            raise Wrong(message="the condition is nested too deep")
        operands = [self.every(depth)]
        while self.accept("or"):
            operands.append(self.every(depth))
        return Operation("or", tuple(operands)) if len(operands) > 1 else operands[0]

    def every(self, depth: int) -> Gate:
        operands = [self.negation(depth)]
        while self.accept("and"):
            operands.append(self.negation(depth))
        return Operation("and", tuple(operands)) if len(operands) > 1 else operands[0]

    def negation(self, depth: int) -> Gate:
        if depth > MAX_DEPTH:
            raise Wrong(message="the condition is nested too deep")
        if self.accept("not"):
            return Operation("not", (self.negation(depth + 1),))
        if self.token.startswith("(") and self._is_condition_in_brackets():
            self.need("(")
            inner = self.condition(depth + 1)
            self.need(")")
            return inner
        return self.comparison(depth)

    def _is_condition_in_brackets(self) -> bool:
        """Whether the bracket in front holds a comparison (a condition) rather than a sum."""
        level = 0
        for char in self.text[self.end - 1 :]:
            level += (char == "(") - (char == ")")
            if char in "<>=!":
                return True
            if level == 0:
                return False
        return False

    def comparison(self, depth: int) -> Gate:
        left = self.sum(depth)
        operator = self.accept(*_COMPARISONS)
        if not operator:
            raise self.wrong()
        return Operation(operator, (left, self.sum(depth)))

    def sum(self, depth: int) -> Gate:
        tree = self.product(depth)
        while operator := self.accept("+", "-"):
            tree = Operation(operator, (tree, self.product(depth)))
        return tree

    def product(self, depth: int) -> Gate:
        tree = self.unit(depth)
        while operator := self.accept("*", "/"):
            tree = Operation(operator, (tree, self.unit(depth)))
        return tree

    def unit(self, depth: int) -> Gate:
        if depth > MAX_DEPTH:
            raise Wrong(message="the condition is nested too deep")
        if self.accept("-"):
            return Operation("-", (Number(0.0), self.unit(depth + 1)))
        if self.accept("("):
            inner = self.sum(depth + 1)
            self.need(")")
            return inner
        if self.kind == "number":
            number = Number(float(self.token))
            self.advance()
            return number
        return self.metric()

    def metric(self) -> Metric:
        if self.kind != "name" or self.token in ("and", "or", "not"):
            raise self.wrong()
        name = self.token
        self.advance()
        if name not in ("base", "metric"):
            return Metric(name)
        if not self.accept("["):
            return Metric(None if name == "base" else name, of_base=name == "base")
        if self.kind != "text":
            raise self.wrong()
        chosen = self.token[1:-1]
        self.advance()
        self.need("]")
        return Metric(chosen, of_base=name == "base")


def check_gate(text: str) -> str:
    """The condition as written, after checking that it can be read. Raises Wrong."""
    parse_gate(text)
    return text
