"""Which stretch of a log to show and how its lines are numbered; how a line looks is `render.ansi`'s."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from dstack.server.web.page_ports import Logs
from dstack.server.web.render.ansi import LineFolder, Style, render_line

WINDOW_LINES: Final = 2000
WINDOW_BYTES: Final = 512 * 1024
_STRIDE: Final = 1024 * 1024

Read = Callable[[int, int], bytes]


class LineIndex:
    """Counts the lines of one growing log: a checkpoint every MiB, each byte read for it once."""

    def __init__(self, read: Read, stride: int = _STRIDE) -> None:
        self._read, self._stride = read, stride
        self._counts = [0]  # newlines before each multiple of the stride
        self._lock = threading.Lock()

    def lines_before(self, offset: int) -> int:
        """Newlines in the first `offset` bytes, all of which must be stored."""
        with self._lock:
            self._extend(offset)
            base = offset // self._stride
            return self._counts[base] + self._read(base * self._stride, offset).count(b"\n")

    def start_of(self, line: int, size: int) -> int:
        """Where line number `line` (from 1) starts within the first `size` bytes; `size` if there are fewer lines."""
        if line <= 1:
            return 0
        with self._lock:
            self._extend(size)
            base = bisect_left(self._counts, line - 1) - 1
            missing = line - 1 - self._counts[base]
            data = self._read(base * self._stride, min(size, (base + 1) * self._stride))
            at = -1
            for _ in range(missing):
                at = data.find(b"\n", at + 1)
                if at < 0:
                    return size
            return base * self._stride + at + 1

    def _extend(self, offset: int) -> None:
        while len(self._counts) <= offset // self._stride:
            start = (len(self._counts) - 1) * self._stride
            self._counts.append(self._counts[-1] + self._read(start, start + self._stride).count(b"\n"))


class LineIndexes:
    """The line indexes of the logs looked at last."""

    def __init__(self, logs: Logs, most: int = 256) -> None:
        self._logs, self._most = logs, most
        self._kept: OrderedDict[str, LineIndex] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, attempt_id: str) -> LineIndex:
        with self._lock:
            if attempt_id not in self._kept:
                self._kept[attempt_id] = LineIndex(lambda start, end: self._logs.read(attempt_id, start, end))
            self._kept.move_to_end(attempt_id)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
            return self._kept[attempt_id]


@dataclass(frozen=True, slots=True)
class LogWindow:
    """Rendered lines `first`, `first + 1`, ... made of the bytes `start` to `end`. `open` is a line not ended yet."""

    start: int
    end: int
    first: int
    lines: tuple[str, ...]
    open: str
    has_earlier: bool
    has_later: bool

    @property
    def last(self) -> int:
        return self.first + len(self.lines) - 1


def read_window(
    read: Read, index: LineIndex, size: int, *, ended: bool, before: int | None = None, line: int | None = None
) -> LogWindow:
    """The last lines of a log of `size` bytes; the lines that end at offset `before`; or those around number `line`."""
    if line is not None:
        start = index.start_of(max(1, line - 50), size)
        data = _first_lines(read(start, min(size, start + WINDOW_BYTES)), is_end=start + WINDOW_BYTES >= size)
    else:
        end = size if before is None else min(before, size)
        start = max(0, end - WINDOW_BYTES)
        data = _last_lines(read(start, end), is_start=start == 0)
        start = end - len(data)
    stop = start + len(data)
    return _render(data, start, index.lines_before(start) + 1, has_later=stop < size, ended=ended)


def _last_lines(data: bytes, *, is_start: bool) -> bytes:
    """The last `WINDOW_LINES` lines; a first line that began before the data is left out where another follows."""
    if not is_start and 0 <= data.find(b"\n") < len(data) - 1:
        data = data[data.find(b"\n") + 1 :]
    at = len(data) - 1 if data.endswith(b"\n") else len(data)
    for _ in range(WINDOW_LINES):
        at = data.rfind(b"\n", 0, max(at, 0))
        if at < 0:
            return data
    return data[at + 1 :]


def _first_lines(data: bytes, *, is_end: bool) -> bytes:
    at = -1
    for _ in range(WINDOW_LINES):
        following = data.find(b"\n", at + 1)
        if following < 0:
            return data if is_end or at < 0 else data[: at + 1]
        at = following
    return data[: at + 1]


def _render(data: bytes, start: int, first: int, *, has_later: bool, ended: bool) -> LogWindow:
    folder, style = LineFolder(), Style()
    lines: list[str] = []
    for raw in folder.feed(data):
        html, style = render_line(raw, style)
        lines.append(html)
    rest = len(data) - (data.rfind(b"\n") + 1)
    open_, _ = render_line(folder.take(), style) if rest else ("", style)
    if rest and (ended or has_later):
        lines.append(open_)
        open_, rest = "", 0
    return LogWindow(start, start + len(data) - rest, first, tuple(lines), open_, start > 0, has_later)


def line_html(number: int, html: str) -> str:
    """One numbered line with its anchor; `html` is rendered already."""
    anchor = f'<a class="ln" href="#L{number}" data-n="{number}" aria-label="line {number}"></a>'
    return f'<div class="ll" id="L{number}">{anchor}<span>{html}</span></div>'
