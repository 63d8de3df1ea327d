"""Glob patterns over branch names and paths, by GitHub Actions' rules, in time linear in the name.

`*` any characters but `/` · `**` any characters (`**/` also none) · `?` the character before it, or not · `+` the
character before it, once or more · `[a-z0-9]` one of these · `\\` takes the next character as it is · a list's
`!pattern` takes away what patterns before it gave. A pattern is a small machine whose steps are remembered as they
are first taken, so no pattern can make matching slow: not `**a**a**a`; a regular expression is plain text here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from dstack.language.quantities import Wrong

MAX_PATTERN = 500
_MEMORY = 4096  # remembered steps of one pattern


@dataclass(frozen=True, slots=True)
class _Element:
    """One character class: `chars` (None: any), turned round by `negated`; it may `repeat`, and may be left out."""

    chars: frozenset[str] | None
    negated: bool = False
    repeat: bool = False
    optional: bool = False

    def takes(self, char: str) -> bool:
        return self.chars is None or (char in self.chars) != self.negated


_NOTHING = _Element(frozenset(), optional=True)  # takes no character: the way into a `**/`, or past it


class Glob:
    """One compiled pattern. Raises Wrong when it cannot be read."""

    def __init__(self, pattern: str) -> None:
        if not pattern or len(pattern) > MAX_PATTERN:
            raise Wrong(f"1 to {MAX_PATTERN} characters")
        self.elements, self.groups = _parse(pattern)
        self.memory: dict[tuple[frozenset[int], str], frozenset[int]] = {}
        self.start = self._with_skips({0})

    def matches(self, name: str) -> bool:
        """Whether the whole name fits."""
        states, memory = self.start, self.memory
        for char in name:
            after = memory.get((states, char))
            if after is None:
                if len(memory) >= _MEMORY:
                    memory.clear()
                after = memory[states, char] = self._step(states, char)
            if not after:
                return False
            states = after
        return len(self.elements) in states

    def _step(self, states: frozenset[int], char: str) -> frozenset[int]:
        after = set()
        for state in states:
            if state < len(self.elements) and self.elements[state].takes(char):
                after.add(state + 1)
                if self.elements[state].repeat:
                    after.add(state)
        return self._with_skips(after)

    def _with_skips(self, states: set[int]) -> frozenset[int]:
        todo = list(states)
        while todo:
            state = todo.pop()
            nexts = [state + 1] if state < len(self.elements) and self.elements[state].optional else []
            nexts += [state + 3] if state in self.groups else []
            new = [n for n in nexts if n not in states]
            states.update(new)
            todo += new
        return frozenset(states)


def _parse(pattern: str) -> tuple[list[_Element], set[int]]:
    """The elements, and the numbers of those that open a `**/`: from there all three of it can be left out."""
    elements: list[_Element] = []
    groups: set[int] = set()
    at = 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "*":
            deep = pattern.startswith("*", at)
            while pattern.startswith("*", at):
                at += 1
            if deep and pattern.startswith("/", at) and _opens(pattern, at):
                groups.add(len(elements))
                elements.append(_NOTHING)
            elements.append(_Element(None if deep else frozenset("/"), negated=not deep, repeat=True, optional=True))
        elif char in "?+":
            if not elements or elements[-1].repeat or elements[-1].optional:
                raise Wrong(f"put \\ before {char} to mean the character itself")
            last = elements[-1]
            elements[-1] = _Element(last.chars, last.negated, repeat=char == "+", optional=char == "?")
        elif char == "[":
            element, at = _parse_class(pattern, at)
            elements.append(element)
        else:
            if char == "\\" and at < len(pattern):
                char, at = pattern[at], at + 1
            elements.append(_Element(frozenset(char)))
    return elements, groups


def _opens(pattern: str, slash: int) -> bool:
    """Whether the `**` before this slash begins a path segment: only then does `**/` mean "any folders, or none"."""
    before = pattern[:slash].rstrip("*")
    return before == "" or before.endswith("/")


def _parse_class(pattern: str, at: int) -> tuple[_Element, int]:
    end = pattern.find("]", at)
    body = pattern[at:end]
    if end <= at:
        raise Wrong("close the [ with ], or put \\ before it")
    chars: set[str] = set()
    i = 0
    while i < len(body):
        if i + 2 < len(body) and body[i + 1] == "-":
            low, high = ord(body[i]), ord(body[i + 2])
            if low > high or high - low > 0xFFFF:
                raise Wrong(f"the range {body[i : i + 3]} runs backwards or too far")
            chars.update(map(chr, range(low, high + 1)))
            i += 3
        else:
            chars.add(body[i])
            i += 1
    return _Element(frozenset(chars)), end + 1


@lru_cache(maxsize=2048)
def _compiled(pattern: str) -> Glob:
    return Glob(pattern)


def parse_glob(text: str) -> str:
    """The pattern itself, after checking that it can be read. Raises Wrong."""
    _compiled(text.removeprefix("!"))
    return text


def matches_any(patterns: Sequence[str], name: str) -> bool:
    """Whether a list of patterns lets a name through: the last pattern that fits decides, `!` ones say no."""
    verdict = False
    for pattern in patterns:
        wanted = not pattern.startswith("!")
        if verdict != wanted and _compiled(pattern.removeprefix("!")).matches(name):
            verdict = wanted
    return verdict


def is_negative_only(patterns: Sequence[str]) -> bool:
    """A list of nothing but `!` patterns lets nothing through, which is never meant."""
    return bool(patterns) and all(pattern.startswith("!") for pattern in patterns)
