"""Makes text that jobs and people wrote harmless inside a comment of ours: it can be read, and does nothing else.

Everything is cut by inserting a zero-width space (invisible, and no white space to any parser), which works alike in
running text and in code: no guess about where GitHub sees code is needed. What a comment must never do for a job:
mention somebody, refer to or close an issue, give a command, load an image, carry markup or a marker of ours, or leave
something open that swallows what comes after it.
"""

from __future__ import annotations

import html
import re
from functools import cache
from typing import Final

from markdown_it import MarkdownIt
from markdown_it.token import Token

GAP: Final = "\u200b"
LONGEST_LINE: Final = 500  # characters of a message in a table or a sentence

_LINE_ENDS = re.compile("\r\n?|[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
# Controls, half characters, and what turns the order of characters round on the screen.
_UNSEEN = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")
_ESCAPE_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
_IMAGE = re.compile(r"!\[([^\[\]\n]{0,300})\](?:\([^()\n]*(?:\([^()\n]*\)[^()\n]*)*\)|\[[^\[\]\n]{0,300}\])")
# Every part has its most: a job chooses the text, and parts that may take the same characters would be tried in every
# way there is. What stands further away than that names nothing that is not cut by itself.
_CLOSING_WORD = re.compile(
    r"(?i)\b(clos|fix|resolv)(?=(?:e[sd]?|es|ed)?\b[*_~`'\")\]]{0,20}[:\s][\s*_~`'\"(\[]{0,20}"
    r"(?:#|GH-|https?:|[\w.-]{1,140}/[\w.-]))"
)
_COMMAND = (re.compile(r"(?m)^((?:[^\S\n]|[>*+.)\d-])*)/(?=\S)"), rf"\1/{GAP}")
_COMMENT = (re.compile(r"<(?=!)"), f"<{GAP}")  # markers of ours are comments
_CUTS: tuple[tuple[re.Pattern[str], str], ...] = (
    _COMMAND,
    (re.compile(r"!(?=\[)"), f"!{GAP}"),  # an image in another spelling: a link stays
    (re.compile(r"<(?=[A-Za-z/!?])"), f"<{GAP}"),  # tags, comments, addresses in angle brackets
    # Entities may stand for any character cut here; a few that people do write stay.
    (re.compile(r"&(?=#?\w{1,40};)(?!(?:amp|lt|gt|quot|nbsp|times|rarr|plusmn);)"), f"&{GAP}"),
    (re.compile(r"@(?=\S)"), f"@{GAP}"),
    (re.compile(r"#(?=\d)"), f"#{GAP}"),
    (re.compile(r"(?i)\b(GH-)(?=\d)"), rf"\1{GAP}"),
    (re.compile(r"(?i)(/(?:issues|pull|discussions)/)(?=\d)"), rf"\1{GAP}"),
    (_CLOSING_WORD, rf"\1{GAP}"),
)
_PUNCTUATION = re.compile(r"([\\`*_\[\]<|~$])")  # of the middle of a line: what begins a line is not at one here


def readable(text: str) -> str:
    """Text without controls, colours and tricks of direction; every line ends in a newline character."""
    return _UNSEEN.sub("", _LINE_ENDS.sub("\n", _ESCAPE_SEQUENCE.sub("", text)))


def neutral(text: str, images_at: str = "") -> str:
    """Markdown that stays Markdown, with everything that acts cut; images become links to `images_at`."""

    def link(found: re.Match[str]) -> str:
        words = found[1].strip() or "image"
        return f"[image: {words}]({images_at})" if images_at else f"image: {words}"

    return _cut(_IMAGE.sub(link, readable(text)))


def closed(text: str) -> str:
    """The same Markdown, with a fence that it left open closed: what follows it is not swallowed."""
    open_fence = _open_fence(text)
    if open_fence is None:
        return text
    mended = f"{text.rstrip()}\n{open_fence}\n"
    return mended if _open_fence(mended) is None else fenced(text)


def plain(text: str, longest: int = LONGEST_LINE) -> str:
    """Text from elsewhere as one line of plain words, for a sentence or a cell of a table."""
    line = _one_line(text, longest)
    return _PUNCTUATION.sub(r"\\\1", _cut(line))


def tagged(text: str, longest: int = LONGEST_LINE) -> str:
    """Text from elsewhere as one line inside an HTML element of ours, where Markdown is not read."""
    line = _one_line(text, longest)
    return html.escape(_cut(line), quote=False)


def code(text: str, longest: int = LONGEST_LINE) -> str:
    """Text from elsewhere as one line of code; what would end it is left out."""
    line = _one_line(text, longest).replace("`", "'").replace("|", "¦")
    return f"`{_cut(line)}`" if line else ""


def fenced(text: str, language: str = "") -> str:
    """A block of code that nothing inside can end: its fence is longer than any inside."""
    body = _cut(readable(text), (_COMMENT, _COMMAND)).rstrip("\n")
    longest = max((len(run) for run in re.findall(r"`+", body)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{body}\n{fence}"


def _one_line(text: str, longest: int) -> str:
    line = " ".join(readable(text).split())
    return line if len(line) <= longest else line[: longest - 1].rstrip() + "…"


def _cut(text: str, cuts: tuple[tuple[re.Pattern[str], str], ...] = _CUTS) -> str:
    for pattern, instead in cuts:
        text = pattern.sub(instead, text)
    return text


def _open_fence(text: str) -> str | None:
    """The fence that a text leaves open; None when a paragraph after it would be one."""
    tokens: list[Token] = []
    parser = _parser()
    parser.block.parse(f"{text.rstrip()}\n\nEND\n", parser, {}, tokens)  # blocks alone, not what is inside lines
    if [token.type for token in tokens[-3:]] == ["paragraph_open", "inline", "paragraph_close"] and not tokens[
        -1
    ].level:
        return None
    return tokens[-1].markup if tokens[-1].type == "fence" else "```"


@cache
def _parser() -> MarkdownIt:
    return MarkdownIt("commonmark").enable("table")
