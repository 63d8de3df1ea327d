"""Makes the bytes of a job's log safe for a terminal: colours stay, everything else that commands a terminal goes."""

from __future__ import annotations

import codecs
import re

MAX_HELD = 4096  # an escape sequence longer than this is no sequence
_SEQUENCE = re.compile(
    r"(?P<colour>\x1b\[[0-9;:]*m)|\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_][^\x1b\x07]*(?:\x1b\\|\x07)"
    r"|\x1b[ -/]*[0-OQ-WYZ`-~]|[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9f]|[\u200e\u200f\u202a-\u202e\u2066-\u2069]",
    re.DOTALL,
)
_STRAY_ESCAPE = re.compile(r"\x1b(?!\[[0-9;:]*m)")
_BEGUN = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|[\]PX^_][^\x1b\x07]*\x1b?|[ -/]*)?\Z", re.DOTALL)


class TerminalFilter:
    """Feed bytes as they come, in any cuts; the text to print comes out."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""

    def feed(self, data: bytes, *, final: bool = False) -> str:
        text = self._held + self._decoder.decode(data, final)
        begun = None if final else _BEGUN.search(text, max(0, len(text) - MAX_HELD))
        cut = begun.start() if begun else len(text)
        self._held = text[cut:]
        clean = _SEQUENCE.sub(lambda match: match["colour"] or "", text[:cut])
        return _STRAY_ESCAPE.sub("", clean)
