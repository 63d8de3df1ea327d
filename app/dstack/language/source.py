"""Reads one YAML file into nodes: encoding, syntax and size; what the words mean is left to the shapes.

PyYAML yields events and nothing of its loaders is used: plain scalars stay text as written (so `on`, `no`, `1.10`,
`1e-3` and `1:30` keep their spelling), and aliases, tags, merge keys, second documents and double keys are refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from dstack.language.nodes import Items, Node, Place, Scalar, Table, quote
from dstack.language.problems import Problem

MAX_BYTES = 1_000_000
MAX_DEPTH = 20
MAX_NODES = 10_000

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Refused(Exception):
    """Reading stops here: nothing sensible can be said about the rest of the file."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def read_yaml(file: str, data: bytes) -> tuple[Node | None, tuple[Problem, ...]]:
    """The tree of one file and its problems; None when the file is empty or cannot be read as YAML."""
    try:
        text = _text(file, data)
        return _Composer(file).compose(text)
    except _Refused as refusal:
        return None, (refusal.problem,)


def _text(file: str, data: bytes) -> str:
    if len(data) > MAX_BYTES:
        raise _Refused(Problem(file, 0, 0, f"the file is too large: {len(data):,} bytes", f"at most {MAX_BYTES:,}"))
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in data[:4]:
        raise _Refused(Problem(file, 1, 1, "the file is not UTF-8 (it looks like UTF-16)", "UTF-8", "save it as UTF-8"))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        start = data.rfind(b"\n", 0, error.start) + 1
        column = len(data[start : error.start].decode("utf-8", "replace")) + 1
        byte = f"byte 0x{data[error.start]:02x}"
        message = f"the file is not UTF-8 ({byte}; Latin-1?)"
        raise _Refused(Problem(file, line, column, message, "UTF-8", "save it as UTF-8")) from None
    return text.replace("\r\n", "\n")


@dataclass
class _Open:
    """A list or mapping whose end has not come yet; `key` waits for its value, `seen` says where each key stood."""

    at: Place
    is_table: bool
    items: list[Node] = field(default_factory=list)
    pairs: list[tuple[Scalar, Node]] = field(default_factory=list)
    key: Scalar | None = None
    seen: dict[str, Place] = field(default_factory=dict)

    def closed(self) -> Node:
        return Table(tuple(self.pairs), self.at) if self.is_table else Items(tuple(self.items), self.at)


class _Composer:
    """Builds nodes from events on a stack of its own, so that no depth of input reaches Python's."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self.stack: list[_Open] = []
        self.root: Node | None = None
        self.documents = 0
        self.nodes = 0

    def compose(self, text: str) -> tuple[Node | None, tuple[Problem, ...]]:
        try:
            for event in self._events(text):
                self._take(event)
        except yaml.MarkedYAMLError as error:
            raise _Refused(_syntax_problem(self.file, text, error)) from None
        except yaml.YAMLError as error:  # a character that YAML does not allow
            raise _Refused(_reader_problem(self.file, text, error)) from None
        if isinstance(self.root, Scalar) and self.root.is_nothing:
            return None, tuple(self.problems)
        return self.root, tuple(self.problems)

    def _events(self, text: str) -> Iterator[yaml.Event]:
        return yaml.parse(text, Loader=_LOADER)

    def _take(self, event: yaml.Event) -> None:
        mark = event.start_mark
        at = Place(self.file, mark.line + 1, mark.column + 1) if mark else Place(self.file, 1, 1)
        if isinstance(event, yaml.DocumentStartEvent):
            self.documents += 1
            if self.documents > 1:
                raise self._refusal(at, "a second document begins here", "one document in a file", "remove the `---`")
        elif isinstance(event, yaml.AliasEvent):
            star = f"*{event.anchor}"
            raise self._refusal(at, f"aliases are not allowed ({star})", "", f'a pattern? quote it: "{star}"')
        elif isinstance(event, (yaml.SequenceEndEvent, yaml.MappingEndEvent)):
            self._add(self.stack.pop().closed())
        elif isinstance(event, (yaml.SequenceStartEvent, yaml.MappingStartEvent, yaml.ScalarEvent)):
            self._start(event, at)

    def _start(self, event: Any, at: Place) -> None:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise self._refusal(at, "the file is too large", f"at most {MAX_NODES:,} values")
        if event.tag is not None:
            raise self._refusal(at, f"tags are not allowed ({event.tag})", "", 'a pattern? quote it: "!..."')
        if isinstance(event, yaml.ScalarEvent):
            self._add(Scalar(event.value, at, quoted=bool(event.style)))
            return
        if len(self.stack) >= MAX_DEPTH:
            raise self._refusal(at, "the file is nested too deep: too large", f"at most {MAX_DEPTH} levels")
        self.stack.append(_Open(at, isinstance(event, yaml.MappingStartEvent)))

    def _add(self, node: Node) -> None:
        if not self.stack:
            self.root = node
            return
        top = self.stack[-1]
        if not top.is_table:
            top.items.append(node)
        elif top.key is None:
            top.key = self._key(node, top)
        else:
            if top.key.text not in top.seen:
                top.seen[top.key.text] = top.key.at
                top.pairs.append((top.key, node))
            top.key = None

    def _key(self, node: Node, table: _Open) -> Scalar:
        if not isinstance(node, Scalar):
            raise self._refusal(node.at, "a key is not text", "text", 'quote it if it holds "${{ }}", "{" or "["')
        if node.text in table.seen:
            lines = f"{table.seen[node.text].line} and {node.at.line}"
            message = f"{quote(node.text)} stands twice: in lines {lines}"
            self.problems.append(Problem(self.file, node.at.line, node.at.column, message, "each key once"))
        return node

    def _refusal(self, at: Place, message: str, expected: str = "", suggestion: str = "") -> _Refused:
        return _Refused(Problem(self.file, at.line, at.column, message, expected, suggestion))


def _syntax_problem(file: str, text: str, error: yaml.MarkedYAMLError) -> Problem:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line, mark.column) if mark else (0, 0)
    said = ", ".join(part for part in (error.context, error.problem) if part)
    lines = text.splitlines()
    written = lines[line] if line < len(lines) else ""
    return Problem(file, line + 1, column + 1, f"not YAML: {said}", suggestion=_advice(written))


def _advice(written: str) -> str:
    """What usually is behind a syntax error in this line."""
    indent = written[: len(written) - len(written.lstrip())]
    if "\t" in indent:
        return "indent with spaces, not tabs"
    value = written.strip().lstrip("- ").rpartition(": ")[2].lstrip("[ ")
    if "${{" in written:
        return 'quote it: "${{ ... }}"'
    if value[:1] in ("*", ">", "|", "@", "`", "%", "&", "!", "?") or ": " in value or written.count(": ") > 1:
        return "quote the value: it begins with, or holds, a character that YAML uses itself"
    return ""


def _reader_problem(file: str, text: str, error: yaml.YAMLError) -> Problem:
    position = getattr(error, "position", 0) or 0
    bad = next((i for i, c in enumerate(text) if not _is_allowed(c)), min(position, len(text)))
    line = text.count("\n", 0, bad) + 1
    column = bad - (text.rfind("\n", 0, bad) + 1) + 1
    shown = f" U+{ord(text[bad]):04X}" if bad < len(text) else ""
    return Problem(file, line, column, f"the character{shown} is not allowed in YAML", "printable text")


def _is_allowed(char: str) -> bool:
    return char in "\t\n\r\x85" or " " <= char <= "~" or (char >= "\xa0" and char not in "\ufffe\uffff")
