"""Finds the lines of a comment that could be commands, pure and in linear time; what they ask for is read elsewhere.

A command is a line that begins with `/dstack`, or with a workflow's own word, such as `/train`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterator
from dataclasses import dataclass

MAIN_WORD = "/dstack"

_LINE_END = re.compile(r"\r\n|\n|\r")
_COMMAND = re.compile(r"(/[a-z0-9][a-z0-9-]{0,49})(?:[ \t](.*))?\Z")
_FENCE = re.compile(r" {0,3}(`{3,}(?=[^`]*\Z)|~{3,})")
_QUOTE = re.compile(r" {0,3}>(.*)")
_CODE_SPAN = re.compile(r"`[^`]*`")
# CommonMark's blocks of HTML. Those to their end: code, and what folds away or quotes, with whatever stands in it.
_RAW_BLOCK = re.compile(r" {0,3}<(pre|script|style|textarea|blockquote|details)(?=[\s>]|\Z)", re.IGNORECASE)
_UNTIL_BLANK = ("</blockquote>", "</details>")  # the line of their end, and those below it, are HTML still
_REMARKS = (("<!--", "-->"), ("<?", "?>"), ("<![CDATA[", "]]>"), ("<!", ">"))  # nobody sees what is in them
_HTML_BLOCK = re.compile(
    r" {0,3}</?(?:address|article|aside|base|basefont|blockquote|body|caption|center|col|colgroup|dd|details|dialog|dir"
    r"|div|dl|dt|fieldset|figcaption|figure|footer|form|frame|frameset|h[1-6]|head|header|hr|html|iframe|legend|li|link"
    r"|main|menu|menuitem|nav|noframes|ol|optgroup|option|p|param|search|section|summary|table|tbody|td|tfoot|th|thead"
    r"|title|tr|track|ul)(?=[\s>]|/>|\Z)",
    re.IGNORECASE,
)
_UNSEEN_KINDS = frozenset({"Cc", "Cf", "Cs", "Co", "Zs", "Zl", "Zp"})
_UNSEEN = frozenset("\u034f\u115f\u1160\u2800\u3164\uffa0")  # letters by name that show nothing


@dataclass(frozen=True, slots=True)
class Line:
    """A line that begins with a command's word. `rest` is what follows it."""

    word: str
    rest: str = ""

    @property
    def text(self) -> str:
        return f"{self.word} {self.rest}".rstrip()


def find_lines(text: str) -> tuple[Line, ...]:
    """Every line that could be a command, in order: not in code, quotes or HTML comments, and of nothing but characters
    that one can see, so that what runs is what stands there."""
    return tuple(
        Line(found[1], (found[2] or "").strip())
        for line in _plain_lines(text)
        if line.startswith("/") and (found := _COMMAND.match(line)) and not _hides_something(line)
    )


def of_known_words(lines: Collection[Line], words: Collection[str]) -> tuple[Line, ...]:
    """Those that are ours: other programs have commands too."""
    return tuple(line for line in lines if line.word == MAIN_WORD or line.word in words)


def _plain_lines(text: str) -> Iterator[str]:
    """The lines that are shown as text at the left margin. What is in doubt is left out: a person can write again."""
    fence, raw_end, in_html, in_quote, in_remark = "", "", False, False, False
    for line in _LINE_END.split(text):
        if raw_end:
            raw_end, in_html = _after_raw(line, raw_end)
        elif fence:
            fence = "" if _closes(line, fence) else fence
        elif not line.strip():
            in_html = in_quote = in_remark = False
        elif in_html:
            continue
        elif opening := _FENCE.match(line):
            fence, in_quote, in_remark = opening[1], False, False
        elif end := _end_of_remark(line):
            raw_end = end if end not in line else ""
        elif block := _RAW_BLOCK.match(line):
            raw_end, in_html = _after_raw(line, f"</{block[1].lower()}>")
        elif _HTML_BLOCK.match(line):
            in_html = True
        elif quote := _QUOTE.match(line):
            in_quote = bool(quote[1].strip())
        elif in_remark:
            in_remark = _opens_remark(line, is_open=True)
        elif not in_quote:  # a line right below a quote's text still belongs to the quote
            in_remark = _opens_remark(line)
            yield line


def _after_raw(line: str, end: str) -> tuple[str, bool]:
    """What still has to come after this line of a block that goes to `end`; and whether the next lines are HTML."""
    is_over = end.lower() in line.lower()
    return "" if is_over else end, is_over and end in _UNTIL_BLANK


def _end_of_remark(line: str) -> str:
    """What ends the remark that the line begins with; empty where it begins with none."""
    shown = line.lstrip(" ")
    return next((end for start, end in _REMARKS if shown.startswith(start)), "")


def _closes(line: str, fence: str) -> bool:
    closing = _FENCE.match(line)
    return bool(
        closing and closing[1][0] == fence[0] and len(closing[1]) >= len(fence) and not line[closing.end() :].strip()
    )


def _opens_remark(line: str, *, is_open: bool = False) -> bool:
    """Whether an HTML comment within a paragraph goes on after this line."""
    if is_open and "-->" not in line:
        return True
    text = line.rpartition("-->")[2]
    return "<!--" in text and "<!--" in _CODE_SPAN.sub("", text)


def _hides_something(line: str) -> bool:
    """Whether it has spaces that are none, or characters that nobody sees."""
    if line.isascii() and line.replace("\t", "").isprintable():
        return False
    return any(c in _UNSEEN or (unicodedata.category(c) in _UNSEEN_KINDS and c not in " \t") for c in line)
