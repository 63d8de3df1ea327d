"""Turns `${{ x }}` in shell text into references to environment variables, quoted for the place where they stand.

The value itself never enters the text, so it can never become code, whatever it holds. How a reference is quoted is
read from the text before it: bare, in double quotes, in single quotes, in a comment, or in a here-document.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from dstack.language.quantities import Wrong
from dstack.language.templates import ATTEMPT, ATTEMPT_ENV, CONTEXT_NAMES, Hole, env_name, holes

_HEREDOC = re.compile(r"<<-?[ \t]*(?:'([^'\n]+)'|\"([^\"\n]+)\"|\\?([A-Za-z_][\w.-]*))")


def reference_name(name: str) -> str:
    """The environment variable behind an expression: `lr` -> `DSTACK_VAR_LR`, `run.name` -> `DSTACK_RUN_NAME`."""
    if name == ATTEMPT:
        return ATTEMPT_ENV
    prefix = "DSTACK_" if name in CONTEXT_NAMES else "DSTACK_VAR_"
    return prefix + env_name(name.replace(".", "_"))


def to_references(text: str) -> str:
    """The text with every `${{ x }}` a quoted reference. Raises Wrong where the shell would not expand one."""
    walk = _Walk()
    parts, at = [], 0
    for hole in holes(text):
        walk.over(text, at, hole.start)
        parts += [text[at : hole.start], _reference(hole, walk)]
        at = hole.end
    return "".join([*parts, text[at:]])


def _reference(hole: Hole, walk: _Walk) -> str:
    name = "${" + reference_name(hole.name) + "}"
    if walk.here and walk.in_body:
        if walk.here[0].literal:
            raise Wrong("use <<END without quotes", f"{hole.written} stands in a here-document that is taken literally")
        return name
    if walk.quote == '"':
        return name
    if walk.quote == "'":
        return f"'\"{name}\"'"
    return f'"{name}"'


@dataclass(frozen=True, slots=True)
class _Here:
    """A here-document: the line that ends it, and whether its body is taken literally (a quoted delimiter)."""

    end: str
    literal: bool


class _Walk:
    """Follows shell text from the left and knows what quotes, comment or here-document it is in."""

    def __init__(self) -> None:
        self.quote = ""  # `'`, `"`, `#` (a comment), or none
        self.here: list[_Here] = []
        self.in_body = False

    def over(self, text: str, at: int, end: int) -> None:
        """Go on from `at` to `end`."""
        while at < end:
            at = self._body_line(text, at, end) if self.in_body else self._char(text, at)

    def _char(self, text: str, at: int) -> int:
        char = text[at]
        if char == "\n":
            self.quote = "" if self.quote == "#" else self.quote
            self.in_body = bool(self.here) and not self.quote
        elif self.quote == "#":
            pass
        elif self.quote == "'":
            self.quote = "" if char == "'" else "'"
        elif char == "\\":
            return at + 2
        elif self.quote == '"':
            self.quote = "" if char == '"' else '"'
        elif char in "'\"":
            self.quote = char
        elif char == "#" and (at == 0 or text[at - 1] in " \t\n;&|("):
            self.quote = "#"
        elif char == "<":
            return self._here(text, at)
        return at + 1

    def _here(self, text: str, at: int) -> int:
        if text.startswith("<<<", at):
            return at + 3
        match = _HEREDOC.match(text, at)
        if not match:
            return at + 1
        bare = match[3]
        literal = bare is None or "\\" in match[0]
        self.here.append(_Here(bare or match[1] or match[2], literal))
        return match.end()

    def _body_line(self, text: str, at: int, end: int) -> int:
        newline = text.find("\n", at, end)
        if newline < 0:
            return end
        begin = text.rfind("\n", 0, at) + 1
        if text[begin:newline].strip("\t") == self.here[0].end:
            self.here.pop(0)
            self.in_body = bool(self.here)
        return newline + 1
