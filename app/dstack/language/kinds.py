"""The small kinds of values that several keys share: whole numbers, choices, sizes, times, names, paths, patterns."""

from __future__ import annotations

from typing import Any

from dstack.language import globs, words
from dstack.language.quantities import integer, parse_boolean, parse_duration, parse_size
from dstack.language.shapes import ANY_SCALAR, ListOf, Shape, Word


def whole(low: int, high: int) -> Word:
    """A whole number in a range."""
    types = {"type": "integer", "minimum": low, "maximum": high}
    return Word(f"a whole number from {low} to {high}", integer(low, high), types)


def choice(*names: str) -> Word:
    """One of a few words."""
    return Word("one of " + ", ".join(names), words.one_of(names), {"enum": list(names)}, template=False)


def fixed(expected: str, parse: Any = str, pattern: str = "") -> Word:
    """Text that is known without a run: no expressions in it."""
    types = {"type": "string", "pattern": pattern} if pattern else {"type": "string"}
    return Word(expected, parse, types, template=False)


TEXT = Word("text", lines=True)
BOOLEAN = Word("true or false", parse_boolean, {"type": "boolean"}, template=False)
SIZE = Word(
    "a size such as 16GB", parse_size, {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*[KMGTPkmgtp]i?[bB]?\s*$"}
)
DURATION = Word(
    "a time such as 90s, 10m, 1h30m or 2d, at most 366d",
    parse_duration,
    {"type": "string", "pattern": r"^\s*(\d+\s*[dhms]\s*)+$"},
)
NAME = fixed("a name of letters, digits, . _ - (at most 100)", words.parse_name, r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
PATH = Word("a relative path inside the repository", words.parse_path)
GLOB = fixed("a pattern such as src/** or !docs/**", globs.parse_glob)
ENV_VALUE = Word("text", types=ANY_SCALAR, empty=True, attempt=True, lines=True)
PYTHON_VERSION = Word(
    "a Python version such as 3.11", words.parse_python, {"type": ["string", "number"]}, template=False
)
ENV_KEY = fixed("a name of letters, digits and _", words.parse_env_key)


def patterns(what: str) -> Shape:
    return ListOf(Word(f"{what} such as main or release/**", globs.parse_glob, template=False), limit=200)
