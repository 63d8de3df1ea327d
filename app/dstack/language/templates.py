"""`${{ name }}` in text: finds the names, fills them in; which names exist and what they are worth is the caller's."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

# What an expression may name besides the workflow's variables. `attempt` is known only when a job is accepted.
CONTEXT_NAMES = ("run.name", "repo", "sha", "branch", "trigger", "attempt", "schedule.time")
ATTEMPT = "attempt"
ATTEMPT_ENV = "DSTACK_ATTEMPT"

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*(?:\.[A-Za-z_][A-Za-z0-9_-]*)*\Z")


@dataclass(frozen=True, slots=True)
class Hole:
    """One `${{ name }}`: `start` and `end` bound it in the text; `name` is empty when it is none, or not closed."""

    start: int
    end: int
    name: str
    written: str


def holes(text: str) -> tuple[Hole, ...]:
    """Every `${{ ... }}` of a text, in order."""
    result = []
    start = text.find("${{")
    while start >= 0:
        close = text.find("}}", start)
        end = close + 2 if close >= 0 else len(text)
        inner = text[start + 3 : close if close >= 0 else end].strip()
        is_name = close >= 0 and _NAME.match(inner)
        result.append(Hole(start, end, inner if is_name else "", text[start:end]))
        start = text.find("${{", end)
    return tuple(result)


def has_holes(text: str) -> bool:
    return "${{" in text


def env_name(name: str) -> str:
    """The environment variable that carries a variable: `batch-size` -> `BATCH_SIZE`. Equal for both spellings."""
    return name.replace("-", "_").upper()


def fill(text: str, value: Callable[[Hole], str]) -> str:
    """The text with each hole replaced by its value. Values are not looked at again: they never become expressions."""
    parts, at = [], 0
    for hole in holes(text):
        parts += [text[at : hole.start], value(hole)]
        at = hole.end
    return "".join([*parts, text[at:]])


class Loop(Exception):
    """Variables that are defined by each other; `names` in the order they refer."""

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__(" -> ".join(names))
        self.names = names


def expand(variables: Mapping[str, str], overrides: Mapping[str, str], context: Mapping[str, str]) -> dict[str, str]:
    """Variables with the expressions in their defaults filled in; overrides are taken literally. Raises Loop.

    Names that nobody knows, and `attempt`, stay as written: the check at load has already refused them.
    """
    by_env = {env_name(name): name for name in variables}
    done: dict[str, str] = dict(overrides)

    def value(name: str, path: tuple[str, ...]) -> str:
        if name not in done:
            if name in path:
                raise Loop((*path[path.index(name) :], name))
            done[name] = fill(variables[name], lambda hole: look_up(hole, (*path, name)))
        return done[name]

    def look_up(hole: Hole, path: tuple[str, ...]) -> str:
        if hole.name in context:
            return context[hole.name]
        known = by_env.get(env_name(hole.name))
        return value(known, path) if known else hole.written

    return {name: value(name, ()) for name in variables}
