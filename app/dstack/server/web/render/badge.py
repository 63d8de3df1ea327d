"""Draws the badge of a workflow: its name and the state of its newest run, as a picture for a README."""

from __future__ import annotations

from typing import Final

from markupsafe import Markup

from dstack.server.web.render.words import MARKS

# Dark enough for white text at 4.5:1.
_COLOURS: Final = {"good": "#1a7f37", "bad": "#c4232b", "live": "#0b62d6", "wait": "#8a5a00", "quiet": "#5b6470"}


def badge(workflow: str, state: str) -> Markup:
    """An SVG of 20 pixels height; an empty or unknown `state` reads `unknown`."""
    mark = MARKS.get(state)
    label = _short(workflow) or "dstack"
    word = mark.word.lower() if mark else "unknown"
    colour = _COLOURS[mark.tone if mark else "quiet"]
    left, right = _width(label), _width(word)
    return Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" width="{total}" height="20" role="img" aria-label="{label}: {word}">'
        "<title>{label}: {word}</title>"
        '<clipPath id="r"><rect width="{total}" height="20" rx="4"/></clipPath>'
        '<g clip-path="url(#r)"><rect width="{left}" height="20" fill="#2b3036"/>'
        '<rect x="{left}" width="{right}" height="20" fill="{colour}"/></g>'
        '<g fill="#fff" text-anchor="middle" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11">'
        '<text x="{label_x}" y="14">{label}</text><text x="{word_x}" y="14">{word}</text></g></svg>'
    ).format(
        total=left + right, left=left, right=right, label=label, word=word, colour=colour,
        label_x=left / 2, word_x=left + right / 2,
    )  # fmt: skip


def _short(text: str) -> str:
    clean = "".join(char for char in text if char.isprintable()).strip()
    return clean if len(clean) <= 40 else clean[:39] + "…"


def _width(text: str) -> int:
    """About what Verdana at 11 pixels takes, with a margin; wide scripts take two thirds more."""
    return 12 + round(sum(4.0 if char in "ijlft.:'| -" else 7.0 if ord(char) < 0x1100 else 11.5 for char in text))
