"""A problem in a file and the words it is told in; finding problems is left to the readers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

from dstack.errors import ConfigProblems


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong, where, what was expected and what was probably meant.

    `line` and `column` count from 1; 0 means the place is a whole file, or no file at all (a command line, a job list).
    """

    file: str
    line: int
    column: int
    message: str
    expected: str = ""
    suggestion: str = ""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        words = [self.message]
        if self.expected:
            words.append(f"expected {self.expected}")
        if self.suggestion:
            words.append(self.suggestion)
        return (f"{where}: " if where else "") + "; ".join(words)


def nearest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """The question `did you mean "x"?`, or an empty text when nothing known is close to `word` (1: the same)."""
    names = {name.lower().replace("_", "-"): name for name in known}
    found = get_close_matches(word[:200].lower().replace("_", "-"), names, n=1, cutoff=cutoff)
    return f'did you mean "{names[found[0]]}"?' if found else ""


def listing(names: Iterable[str], limit: int = 12) -> str:
    """Names in words: `a, b, c`, cut after `limit` of them."""
    shown = list(names)
    more = f", … ({len(shown) - limit} more)" if len(shown) > limit else ""
    return ", ".join(shown[:limit]) + more


def refuse(problems: Iterable[Problem], hint: str = "") -> None:
    """Raise ConfigProblems with every problem, one a line, if there is any."""
    lines = [str(problem) for problem in problems]
    if lines:
        raise ConfigProblems("\n".join(lines), hint)
