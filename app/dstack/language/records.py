"""Mappings of known keys: each key with its shape and help; unknown, double and missing ones are reported."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dstack.language.nodes import Node, Scalar, Table, quote
from dstack.language.problems import listing, nearest
from dstack.language.quantities import Wrong
from dstack.language.reading import Reading
from dstack.language.shapes import Json, Shape


@dataclass(frozen=True)
class Field:
    """One key of a record. `spellings` are other words for it; `_` for `-` is always one. `later` marks keys that are
    checked and kept, but that this version of the server does not act on."""

    name: str
    shape: Shape
    help: str
    spellings: tuple[str, ...] = ()
    required: bool = False
    later: bool = False

    def all_spellings(self) -> tuple[str, ...]:
        words = [self.name, *self.spellings]
        return tuple(dict.fromkeys([*words, *(word.replace("-", "_") for word in words)]))


@dataclass(frozen=True)
class Record:
    """A mapping of known keys; `build` makes the value from those given. `hints` answer keys of other tools."""

    fields: tuple[Field, ...]
    build: Callable[[dict[str, Any]], Any] = lambda values: values
    what: str = "a mapping"
    hints: Mapping[str, str] = field(default_factory=dict)

    @property
    def expected(self) -> str:
        return f"{self.what} ({listing(f.name for f in self.fields)})"

    def read(self, node: Node, reading: Reading, path: str) -> Any:
        values = self.read_values(node, reading, path)
        if values is None:
            return None
        try:
            return self.build(values)
        except Wrong as wrong:
            reading.wrong(node, path, "", wrong.suggestion, wrong.message)
            return None

    def read_values(self, node: Node, reading: Reading, path: str) -> dict[str, Any] | None:
        """The values by the names of their fields; None when a required one is missing or wrong."""
        if not isinstance(node, Table):
            reading.wrong(node, path, self.expected)
            return None
        known = {word: f for f in self.fields for word in f.all_spellings()}
        values: dict[str, Any] = {}
        seen: dict[str, Scalar] = {}
        for key, item in node.pairs:
            chosen = known.get(key.text)
            if chosen is None:
                self._unknown(key, reading, path)
            elif chosen.name in seen:
                first = seen[chosen.name]
                said = f'{path}: "{key.text}" and "{first.text}" (line {first.at.line}) are one key'
                reading.problem(key.at, said, "each key once")
            else:
                seen[chosen.name] = key
                value = chosen.shape.read(item, reading, f"{path}.{chosen.name}")
                if value is not None:
                    values[chosen.name] = value
        return values if self._is_complete(node, seen, values, reading, path) else None

    def _is_complete(
        self, node: Table, seen: Mapping[str, Scalar], values: Mapping[str, Any], reading: Reading, path: str
    ) -> bool:
        required = [f for f in self.fields if f.required]
        for missing in (f for f in required if f.name not in seen):
            reading.problem(node.at, f'{path}: "{missing.name}" is missing', missing.shape.expected)
        return all(f.name in values for f in required)

    def _unknown(self, key: Scalar, reading: Reading, path: str) -> None:
        names = [f.name for f in self.fields]
        # Suggested in the style it was written in: depends-on, or depends_on to someone who writes underscores.
        other_style = "-" if "_" in key.text else "_"
        spellings = [word for f in self.fields for word in f.all_spellings() if other_style not in word]
        hint = self.hints.get(key.text, "") or nearest(key.text, spellings)
        reading.problem(
            key.at, f"{path}: unknown key {quote(key.text)}", "" if hint else f"one of {listing(names, 40)}", hint
        )

    def schema(self) -> Json:
        result: Json = {"type": "object", "properties": properties(self.fields), "additionalProperties": False}
        required = [f.name for f in self.fields if f.required and not f.spellings]
        return {**result, "required": required} if required else result


def properties(fields: tuple[Field, ...]) -> Json:
    """The JSON Schema of every spelling of these fields."""
    return {word: {"description": f.help, **f.shape.schema()} for f in fields for word in f.all_spellings()}
