"""Turns the bytes a job printed into safe HTML lines: colours stay, every other terminal trick is dropped or shown.

It keeps no file and no offset: `log_stream.py` says which bytes, this says how they look.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from html import escape
from typing import Final

MAX_LINE_BYTES: Final = 16 * 1024
"""What is kept of one line; the rest is counted and said so."""

_PLAIN = re.compile(rb"[\t\x20-\x7e]*\Z")
_ESCAPE = re.compile(
    r"(?:\x1b\[|\x9b)(?P<sgr>[0-9;:]*)m"  # colours: the only sequence that is kept
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"  # cursor moves, clearing, modes, questions to the terminal
    r"|(?:\x1b\]|\x9d).*?(?:\x07|\x1b\\|\x9c|\Z)"  # titles, OSC-8 links, OSC-52 clipboard; unclosed: to the line's end
    r"|(?:\x1b[PX^_]|[\x90\x98\x9e\x9f]).*?(?:\x1b\\|\x9c|\Z)"  # device control and other strings
    r"|\x1b[ -/]*[0-~]?"
    r"|[\x00-\x07\x0b-\x1f\x7f-\x9f]",
    re.DOTALL,
)
# Characters that reorder or hide text: shown by their code, so that no line reads as something it is not.
_UNSEEN = re.compile(
    "([\u061c\u200b\u200e\u200f\u2028\u2029\u202a-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\U000e0000-\U000e007f])"
)


@dataclass(frozen=True, slots=True)
class Style:
    """The colours and weight in force. `fg` and `bg` are indexes of the sixteen colours, None for the default."""

    fg: int | None = None
    bg: int | None = None
    bold: bool = False
    dim: bool = False
    italic: bool = False
    underline: bool = False
    strike: bool = False
    inverse: bool = False

    def classes(self) -> str:
        """CSS classes. A background brings its own readable text colour, so no pair of colours can hide text."""
        names = [f"b{self.bg}" if self.bg is not None else f"f{self.fg}" if self.fg is not None else ""]
        for name in ("bold", "dim", "italic", "underline", "strike", "inverse"):
            names.append(name if getattr(self, name) else "")
        return " ".join(filter(None, names))


_PLAIN_STYLE: Final = Style()
_SWITCHES: Final[dict[int, dict[str, bool]]] = {
    1: {"bold": True}, 2: {"dim": True}, 3: {"italic": True}, 4: {"underline": True}, 7: {"inverse": True},
    9: {"strike": True}, 21: {"underline": True}, 22: {"bold": False, "dim": False}, 23: {"italic": False},
    24: {"underline": False}, 27: {"inverse": False}, 29: {"strike": False},
}  # fmt: skip


@lru_cache(maxsize=1024)
def next_style(style: Style, parameters: str) -> Style:
    """The style after an SGR sequence with these parameters; unknown and malformed ones change nothing."""
    values: dict[str, int | bool | None] = {name: getattr(style, name) for name in Style.__slots__}
    codes = _codes(parameters)
    while codes:
        code = codes.pop(0)
        if code == 0:
            values = {name: getattr(_PLAIN_STYLE, name) for name in Style.__slots__}
        elif code in _SWITCHES:
            values.update(_SWITCHES[code])
        elif code in (38, 48):
            values["fg" if code == 38 else "bg"] = _extended(codes)
        elif code in (39, 49):
            values["fg" if code == 39 else "bg"] = None
        elif 30 <= code <= 37 or 90 <= code <= 97:
            values["fg"] = code - 30 if code < 40 else code - 82
        elif 40 <= code <= 47 or 100 <= code <= 107:
            values["bg"] = code - 40 if code < 50 else code - 92
    return Style(**values)  # type: ignore[arg-type]


def _codes(parameters: str) -> list[int]:
    """The numbers of an SGR sequence, `38:2::R:G:B` spelled as `38;2;R;G;B`; no honest one has more than 32."""
    codes: list[int] = []
    for group in parameters.split(";", 32)[:32]:
        parts = [int(part[:4]) if part else 0 for part in group.split(":", 8)[:8]]
        if len(parts) > 1:
            parts = (
                parts[:2] + parts[-3:] if parts[:2] in ([38, 2], [48, 2]) else parts[: 3 if parts[0] in (38, 48) else 1]
            )
        codes += parts
    return codes


def _extended(codes: list[int]) -> int | None:
    """Reads `5;N` or `2;R;G;B` off the codes: the nearest of the sixteen, whose contrast each theme takes care of."""
    kind = codes.pop(0) if codes else None
    if kind == 5 and codes:
        index = codes.pop(0)
        if index < 16:
            return index
        if index >= 232:
            grey = 8 + 10 * (min(index, 255) - 232)
            return _nearest(grey, grey, grey)
        cube = index - 16
        return _nearest(*(0 if level == 0 else 55 + 40 * level for level in (cube // 36, cube // 6 % 6, cube % 6)))
    if kind == 2 and len(codes) >= 3:
        red, green, blue = codes[:3]
        del codes[:3]
        return _nearest(red, green, blue)
    return None


_PALETTE: Final = (
    (0, 0, 0), (205, 0, 0), (0, 205, 0), (205, 205, 0), (0, 0, 238), (205, 0, 205), (0, 205, 205), (229, 229, 229),
    (127, 127, 127), (255, 0, 0), (0, 255, 0), (255, 255, 0), (92, 92, 255), (255, 0, 255), (0, 255, 255),
    (255, 255, 255),
)  # fmt: skip


def _nearest(red: int, green: int, blue: int) -> int:
    def distance(index: int) -> int:
        r, g, b = _PALETTE[index]
        return (red - r) ** 2 + (green - g) ** 2 + (blue - b) ** 2

    return min(range(16), key=distance)


def render_line(raw: bytes, style: Style = _PLAIN_STYLE) -> tuple[str, Style]:
    """One line without its newline as HTML, and the style the next line starts with."""
    if style == _PLAIN_STYLE and _PLAIN.match(raw):
        return escape(raw.decode("ascii"), quote=False), style
    spans: list[tuple[Style, list[str]]] = [(style, [])]
    text = raw.decode("utf-8", "replace")
    at = 0
    for found in _ESCAPE.finditer(text):
        _put(spans, text[at : found.start()])
        at = found.end()
        if found["sgr"] is not None:
            style = next_style(style, found["sgr"][:200])
            spans.append((style, []))
    _put(spans, text[at:])
    return "".join(_span(span_style, "".join(chars)) for span_style, chars in spans), style


def _put(spans: list[tuple[Style, list[str]]], text: str) -> None:
    """Adds text to the last span; a backspace takes a character back (bars drawn that way end as their last state)."""
    chars = spans[-1][1]
    if "\b" not in text:
        chars.append(text)
        return
    for char in text:
        if char != "\b":
            chars.append(char)
        elif chars:
            chars[-1] = chars[-1][:-1]
            if not chars[-1]:
                chars.pop()


def _span(style: Style, text: str) -> str:
    if not text:
        return ""
    safe = _UNSEEN.sub(lambda found: f"\0{ord(found[1]):04X}\1", text)
    safe = escape(safe, quote=False)
    safe = safe.replace("\0", '<span class="unseen">U+').replace("\1", "</span>")
    classes = style.classes()
    return f'<span class="{classes}">{safe}</span>' if classes else safe


def shows_something(raw: bytes) -> bool:
    """Whether a piece of a line leaves anything visible once its escape sequences are gone."""
    return bool(_ESCAPE.sub("", raw.decode("utf-8", "replace")).strip())


class LineFolder:
    """Cuts a stream of bytes into lines, however it arrives in chunks, in bounded memory.

    A carriage return starts the line again, as progress bars do: the last state that shows something stays. Bytes are
    decoded a line at a time, so a character split between chunks is whole again.
    """

    def __init__(self, limit: int = MAX_LINE_BYTES) -> None:
        self._limit = limit
        self._shown = b""  # the last state before a carriage return
        self._open = bytearray()  # what came after it
        self._cut = 0  # bytes of it over the limit

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that are complete now, without their newlines, cut at the limit."""
        *ended, rest = data.split(b"\n")
        lines = []
        for piece in ended:
            self._append(piece)
            lines.append(self.take())
        self._append(rest)
        return lines

    def peek(self) -> bytes:
        """The line that is not complete yet, as it would show now."""
        open_, cut = bytes(self._open), self._cut
        if self._shown and not shows_something(open_):
            open_, cut = self._shown, 0
        # The string terminator keeps an unclosed sequence of the line from swallowing the marker.
        return open_ + (
            f"\x1b\\\x1b[0;2m … {cut:,} more bytes on this line: see the raw log\x1b[0m".encode() if cut else b""
        )

    def take(self) -> bytes:
        """Ends the open line and gives it."""
        line = self.peek()
        self._shown, self._cut = b"", 0
        self._open.clear()
        return line

    def _append(self, piece: bytes) -> None:
        head, *states = piece.split(b"\r")
        self._extend(head)
        if not states:
            return
        *passed, last = states
        for state in (*reversed(passed), bytes(self._open)):
            if state and shows_something(state[: self._limit]):
                self._shown = state[: self._limit]
                break
        self._open.clear()
        self._cut = 0
        self._extend(last)

    def _extend(self, piece: bytes) -> None:
        room = self._limit - len(self._open)
        self._open += piece[:room]
        self._cut += max(0, len(piece) - room)
