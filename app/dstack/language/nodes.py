"""The tree a YAML file is read into: text as written and where it stands; meaning is left to the shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """A position in a file; lines and columns count from 1, 0 where there is no file."""

    file: str
    line: int = 0
    column: int = 0


@dataclass(frozen=True, slots=True)
class Scalar:
    """One value as written. `quoted` text is never nothing or a boolean, whatever it spells."""

    text: str
    at: Place
    quoted: bool = False

    @property
    def is_nothing(self) -> bool:
        """YAML 1.2 core: the plain scalars that stand for null."""
        return not self.quoted and self.text in ("", "~", "null", "Null", "NULL")


@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    items: tuple[Node, ...]
    at: Place


@dataclass(frozen=True, slots=True)
class Table:
    """A mapping, in the order of the file; its keys are unique texts."""

    pairs: tuple[tuple[Scalar, Node], ...]
    at: Place


Node = Scalar | Items | Table


def found(node: Node) -> str:
    """What stands there, in words for a message."""
    if isinstance(node, Items):
        return "found a list"
    if isinstance(node, Table):
        return "found a mapping"
    if node.is_nothing:
        return "found nothing"
    text = node.text if len(node.text) <= 60 else node.text[:57] + "..."
    return "found " + quote(text)


def quote(text: str) -> str:
    """Text in double quotes with control characters shown, so that a message stays one line."""
    return '"' + "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text) + '"'


def from_data(data: object, file: str = "") -> Node:
    """The tree of data that came from no YAML file (parsed JSON, a command line). Raises TypeError for other types."""
    at = Place(file)
    if data is None:
        return Scalar("", at)
    if isinstance(data, bool):
        return Scalar("true" if data else "false", at)
    if isinstance(data, (int, float)):
        return Scalar(repr(data), at)
    if isinstance(data, str):
        return Scalar(data, at, quoted=True)
    if isinstance(data, Mapping):
        return Table(tuple((Scalar(str(k), at, quoted=True), from_data(v, file)) for k, v in data.items()), at)
    if isinstance(data, Sequence) and not isinstance(data, (bytes, bytearray)):
        return Items(tuple(from_data(item, file) for item in data), at)
    raise TypeError(f"{type(data).__name__} has no place in a workflow")
