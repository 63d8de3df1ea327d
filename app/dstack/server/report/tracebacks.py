"""Finds Python tracebacks in a log; pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

MOST: Final = 50
_LONGEST_LINE: Final = 2000
# Launchers of several processes put who speaks in front of a line.
_SPEAKER = re.compile(r"(?:\[[\w.:-]{1,40}\]:?|\([\w= .:-]{1,60}\)) ?")
_FRAME = re.compile(r'\s{2,}File "([^"]{1,1000})", line (\d{1,7})(?:, in (.{1,200}))?')
_ERROR = re.compile(r"[A-Za-z_][\w.]{0,200}(?:: |:?$)")
_BEGIN: Final = "Traceback (most recent call last):"


@dataclass(frozen=True, slots=True)
class Frame:
    """`path` as the interpreter knew the file."""

    path: str
    line: int
    function: str = ""


@dataclass(frozen=True, slots=True)
class Traceback:
    """`frames` from the outermost in; `error` is its last line, `KeyError: 'x'`."""

    frames: tuple[Frame, ...]
    error: str


@dataclass
class _Reading:
    frames: list[Frame] = field(default_factory=list)
    is_open: bool = False

    def begin(self) -> None:
        self.frames, self.is_open = [], True

    def end(self, error: str) -> Traceback | None:
        found = Traceback(tuple(self.frames), error) if self.frames else None
        self.frames, self.is_open = [], False
        return found


def tracebacks_in(text: str) -> list[Traceback]:
    """In the order they stand, the last `MOST` of them. A syntax error has no beginning line, only frame and error."""
    found: list[Traceback] = []
    reading = _Reading()
    for raw in text.split("\n"):
        line = _without_speaker(raw[:_LONGEST_LINE].rstrip())
        if line.strip() == _BEGIN:
            reading.begin()
        elif (frame := _FRAME.match(line)) is not None:
            reading.is_open = True
            reading.frames.append(Frame(frame[1], int(frame[2]), frame[3] or ""))
        elif reading.is_open and line and not line[0].isspace():
            ended = reading.end(line) if _ERROR.match(line) else reading.end("")
            if ended is not None and ended.error:
                found.append(ended)
    return found[-MOST:]


def _without_speaker(line: str) -> str:
    speaker = _SPEAKER.match(line)
    return line[speaker.end() :] if speaker is not None else line
