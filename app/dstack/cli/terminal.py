"""What this terminal can show (colour, width, characters), and text made fit for it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import TextIO

MIN_WIDTH = 20
WIDE = 10_000  # of a pipe or file: nothing is cut there

_CODES = {"red": "31", "green": "32", "yellow": "33", "blue": "34", "cyan": "36", "dim": "2", "bold": "1"}


def wants_colour(env: Mapping[str, str], *, is_tty: bool) -> bool:
    """NO_COLOR (non-empty) says no, FORCE_COLOR or CLICOLOR_FORCE says yes, else a capable terminal decides."""
    if env.get("NO_COLOR"):
        return False
    if any(env.get(name, "0") not in ("", "0") for name in ("FORCE_COLOR", "CLICOLOR_FORCE")):
        return True
    return is_tty and env.get("TERM") != "dumb"


def has_colour(stream: TextIO | None = None) -> bool:
    return wants_colour(os.environ, is_tty=is_terminal(stream or sys.stdout))


def is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False


def width(stream: TextIO | None = None) -> int:
    """Columns of the terminal; COLUMNS wins; a pipe has no end."""
    asked = os.environ.get("COLUMNS", "")
    if asked.isascii() and asked.isdigit() and int(asked) > 0:
        return max(MIN_WIDTH, int(asked))
    if not is_terminal(stream or sys.stdout):
        return WIDE
    try:
        return max(MIN_WIDTH, os.get_terminal_size((stream or sys.stdout).fileno()).columns)
    except OSError:
        return 80


def paint(text: str, colour: str, *, on: bool) -> str:
    return f"\x1b[{_CODES[colour]}m{text}\x1b[0m" if on and colour else text


def can_show(text: str, stream: TextIO | None = None) -> bool:
    """Whether the stream's encoding has all these characters."""
    try:
        text.encode(getattr(stream or sys.stdout, "encoding", None) or "utf-8")
    except (UnicodeError, LookupError):
        return False
    return True


def tell(text: str) -> None:
    """Say something beside the data: on standard error."""
    print(text, file=sys.stderr, flush=True)
