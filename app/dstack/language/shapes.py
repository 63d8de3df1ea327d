"""The shapes of values: each checks a node, says what it expected, and describes itself as JSON Schema.

A shape reads what it can and reports every problem to the Reading; it answers None when there is no value to use.
Mappings of known keys are in `records.py`; which keys exist is said in `fields.py`.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from dstack.language.nodes import Items, Node, Scalar, Table, found, quote
from dstack.language.quantities import Wrong
from dstack.language.reading import Reading
from dstack.language.templates import fill, has_holes, holes

MAX_TEXT = 10_000
MAX_SHELL_TEXT = 100_000
ANY_SCALAR = {"type": ["string", "number", "boolean"]}  # taken as text, as written
EXPRESSION_SCHEMA = {"type": "string", "pattern": r"\$\{\{.*\}\}"}

Json = dict[str, Any]


class Shape(Protocol):
    """What a value looks like."""

    @property
    def expected(self) -> str:
        """The shape in words, after "expected"."""

    def read(self, node: Node, reading: Reading, path: str) -> Any:
        """The value of a node, or None after reporting why there is none. `path` names the place in messages."""

    def schema(self) -> Json:
        """The shape as JSON Schema (draft 7)."""


def _as_written(text: str) -> str:
    return text


@dataclass(frozen=True)
class Word:
    """One value on one line: `parse` turns its text into what is stored, or raises Wrong.

    `template` lets it hold expressions, `attempt` the one that is known late as well.
    """

    expected: str
    parse: Callable[[str], Any] = _as_written
    types: Json = field(default_factory=lambda: {"type": "string"})
    template: bool = True
    attempt: bool = False
    empty: bool = False
    lines: bool = False

    def read(self, node: Node, reading: Reading, path: str) -> Any:
        text = self._text(node, reading, path)
        if text is None:
            return None
        if has_holes(text) and reading.values is None:
            return text
        try:
            return self.parse(text)
        except Wrong as wrong:
            filled = f"{found(node)}, filled in {quote(text[:60])}" if has_holes(_written(node)) else ""
            reading.wrong(node, path, self.expected, wrong.suggestion, wrong.message or filled)
            return None

    def _text(self, node: Node, reading: Reading, path: str) -> str | None:
        if not isinstance(node, Scalar) or node.is_nothing or (not node.text and not self.empty):
            reading.wrong(node, path, self.expected, _quote_it(node))
            return None
        if len(node.text) > MAX_TEXT:
            reading.wrong(node, path, f"at most {MAX_TEXT:,} characters", message=f"{len(node.text):,} characters")
            return None
        allowed = "\n\t" if self.lines else "\t"
        if any((c < " " and c not in allowed) or c == "\x7f" for c in node.text):
            reading.wrong(node, path, f"{self.expected}, on one line" if not self.lines else self.expected)
            return None
        if not has_holes(node.text):
            return node.text
        if not self.template:
            reading.wrong(node, path, f"{self.expected}, written out", message="${{ }} cannot be used here")
            return None
        return reading.filled(node, path, attempt=self.attempt)

    def schema(self) -> Json:
        is_any_text = self.types.get("type") == "string" and "pattern" not in self.types
        if not self.template or is_any_text or "enum" in self.types:
            return dict(self.types)
        return {"anyOf": [self.types, EXPRESSION_SCHEMA]}


def _written(node: Node) -> str:
    return node.text if isinstance(node, Scalar) else ""


def _quote_it(node: Node) -> str:
    """`{x}` of an unquoted `${{ x }}` in a flow mapping reads as a mapping."""
    return 'quote it if you mean "${{ ... }}"' if isinstance(node, Table) and len(node.pairs) == 1 else ""


@dataclass(frozen=True)
class ShellText:
    """Commands for a shell, over several lines if need be."""

    expected: str = "a shell command"

    def read(self, node: Node, reading: Reading, path: str) -> Any:
        if not isinstance(node, Scalar) or node.is_nothing or not node.text.strip():
            reading.wrong(node, path, self.expected)
            return None
        if len(node.text) > MAX_SHELL_TEXT or "\0" in node.text:
            reading.wrong(node, path, f"at most {MAX_SHELL_TEXT:,} characters, none of them NUL", message="bad text")
            return None
        return reading.shell(node, path)

    def schema(self) -> Json:
        return {"type": "string"}


@dataclass(frozen=True)
class Arguments:
    """Arguments of a program: a line split as a shell would (before expressions are filled in), or a list of them."""

    expected: str = "a line of arguments, or a list of them"

    def read(self, node: Node, reading: Reading, path: str) -> Any:
        if isinstance(node, Items):
            one = Word("one argument", empty=True, attempt=True, lines=True)
            values = [one.read(item, reading, f"{path}[{i}]") for i, item in enumerate(node.items)]
            return None if None in values else tuple(values)
        if not isinstance(node, Scalar) or node.is_nothing:
            reading.wrong(node, path, self.expected)
            return None
        if len(node.text) > MAX_TEXT or "\0" in node.text:
            reading.wrong(node, path, f"at most {MAX_TEXT:,} characters, none of them NUL", message="bad text")
            return None
        return self._split(node, reading, path)

    def _split(self, node: Scalar, reading: Reading, path: str) -> tuple[str, ...] | None:
        """Expressions are taken out, the rest is split, and they are put back: no value can add an argument."""
        if reading.filled(node, path, attempt=True) is None:
            return None
        written = [hole.written for hole in holes(node.text)]
        numbers = iter(range(len(written)))
        try:
            words = shlex.split(fill(node.text, lambda hole: f"\ue000{next(numbers)}\ue001"))
        except ValueError as error:
            reading.wrong(node, path, self.expected, message=f"cannot be split: {error}".lower())
            return None
        restored = []
        for word in words:
            for number, hole in enumerate(written):
                word = word.replace(f"\ue000{number}\ue001", hole)
            restored.append(reading.filled(Scalar(word, node.at, quoted=True), path, attempt=True) or "")
        return tuple(restored)

    def schema(self) -> Json:
        return {"anyOf": [{"type": "string"}, {"type": "array", "items": ANY_SCALAR}]}


@dataclass(frozen=True)
class ListOf:
    """A list; with `lone`, one item may stand for a list of one."""

    item: Shape
    lone: bool = True
    limit: int = 100

    @property
    def expected(self) -> str:
        return f"{self.item.expected}, or a list of them" if self.lone else f"a list, each {self.item.expected}"

    def read(self, node: Node, reading: Reading, path: str) -> Any:
        if not isinstance(node, Items):
            if not self.lone or (isinstance(node, Scalar) and node.is_nothing):
                reading.wrong(node, path, self.expected)
                return None
            value = self.item.read(node, reading, path)
            return None if value is None else (value,)
        if len(node.items) > self.limit:
            reading.wrong(node, path, f"at most {self.limit}", message=f"found {len(node.items)} items")
            return None
        values = [self.item.read(item, reading, f"{path}[{i}]") for i, item in enumerate(node.items)]
        return tuple(value for value in values if value is not None)

    def schema(self) -> Json:
        many = {"type": "array", "items": self.item.schema(), "maxItems": self.limit}
        return {"anyOf": [self.item.schema(), many]} if self.lone else many


@dataclass(frozen=True)
class MapOf:
    """A mapping of names people choose."""

    key: Word
    value: Shape
    limit: int = 200
    what: str = "a mapping"

    @property
    def expected(self) -> str:
        return f"{self.what}: {self.key.expected} to {self.value.expected}"

    def read(self, node: Node, reading: Reading, path: str) -> Any:
        if not isinstance(node, Table) or len(node.pairs) > self.limit:
            reading.wrong(node, path, f"{self.expected} (at most {self.limit})")
            return None
        values = {}
        for key, item in node.pairs:
            name = self.key.read(Scalar(key.text, key.at, quoted=True), reading, f"{path}: key")
            value = self.value.read(item, reading, f"{path}.{key.text}")
            if name is not None and value is not None:
                values[name] = value
        return values

    def schema(self) -> Json:
        return {"type": "object", "additionalProperties": self.value.schema()}


@dataclass(frozen=True)
class ByKind:
    """One of several spellings, told apart by what stands there: one value, a list, a mapping, or nothing."""

    scalar: Shape | None = None
    items: Shape | None = None
    table: Shape | None = None
    nothing: Callable[[], Any] | None = None

    @property
    def expected(self) -> str:
        return ", or ".join(shape.expected for shape in (self.scalar, self.items, self.table) if shape)

    def read(self, node: Node, reading: Reading, path: str) -> Any:
        if isinstance(node, Scalar) and node.is_nothing and self.nothing:
            return self.nothing()
        kinds = {Scalar: self.scalar, Items: self.items, Table: self.table}
        shape = kinds[type(node)]
        if shape is None or (isinstance(node, Scalar) and node.is_nothing):
            reading.wrong(node, path, self.expected, _quote_it(node) if self.scalar else "")
            return None
        return shape.read(node, reading, path)

    def schema(self) -> Json:
        kinds = [shape.schema() for shape in (self.scalar, self.items, self.table) if shape]
        kinds += [{"type": "null"}] if self.nothing else []
        return {"anyOf": kinds} if len(kinds) > 1 else kinds[0]


@dataclass(frozen=True)
class Free:
    """Anything: the options of a custom provider. Every value arrives as text as written, nothing as None."""

    expected: str = "any value"

    def read(self, node: Node, reading: Reading, path: str) -> Any:
        if isinstance(node, Items):
            return [self.read(item, reading, f"{path}[{i}]") for i, item in enumerate(node.items)]
        if isinstance(node, Table):
            return {key.text: self.read(item, reading, f"{path}.{key.text}") for key, item in node.pairs}
        return None if node.is_nothing else reading.filled(node, path, attempt=True)

    def schema(self) -> Json:
        return {}
