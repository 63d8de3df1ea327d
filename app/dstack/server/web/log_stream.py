"""The live log: server-sent events written by hand, resumed by byte offset (`Last-Event-ID`), in bounded memory.

Events: `lines` (whole lines as HTML, its id the offset after them), `partial` (the line being written now), `skip` (the
reader was too slow, some lines are only in the raw log), `end`.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from typing import Final

import anyio
from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Message, Send

from dstack.server.web.log_window import LineIndex, line_html
from dstack.server.web.page_ports import Logs
from dstack.server.web.render.ansi import LineFolder, Style, render_line
from dstack.server.web.security_headers import download_headers

PING_S: Final = 15.0
PACE_S: Final = 0.1
STUCK_S: Final = 30.0
CHUNK: Final = 64 * 1024
BEHIND: Final = 1024 * 1024
"""A reader further behind than this is taken to the newest lines instead."""

_log = logging.getLogger(__name__)


class EventStream(StreamingResponse):
    """A stream of events that lets go of a reader who takes nothing for `STUCK_S`."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[str]) -> None:
        super().__init__(events, headers={"cache-control": "no-store", "x-accel-buffering": "no"})

    async def stream_response(self, send: Send) -> None:
        async def send_in_time(message: Message) -> None:
            with anyio.fail_after(STUCK_S):
                await send(message)

        try:
            await super().stream_response(send_in_time)
        except TimeoutError:
            _log.info("a reader of a log took nothing for %d s and was dropped", STUCK_S)


def start_offset(request: Request, size: int) -> int:
    """Where to go on: after the last event the browser has, else where its page ended; never beyond the log."""
    for text in (request.headers.get("last-event-id", ""), request.query_params.get("offset", "")):
        if text.isascii() and text.isdigit() and len(text) < 16:
            return min(int(text), size)
    return 0


async def log_events(logs: Logs, index: LineIndex, attempt_id: str, offset: int) -> AsyncIterator[str]:
    """The events of a log from `offset` on, until the log has ended or the server stops."""
    view = _LiveView(await to_thread.run_sync(index.lines_before, offset) + 1, offset)
    yield "retry: 2000\n\n"
    while True:
        size = await logs.wait(attempt_id, view.at, PING_S)
        if size is None:
            return
        if size.bytes <= view.at:
            if size.ended:
                break
            yield ": still here\n\n"
            continue
        if size.bytes - view.at > BEHIND:
            to = await to_thread.run_sync(_line_start, logs, attempt_id, size.bytes - BEHIND // 4)
            yield view.jump(to, await to_thread.run_sync(index.lines_before, to) + 1)
        data = await to_thread.run_sync(logs.read, attempt_id, view.at, min(size.bytes, view.at + CHUNK))
        yield view.feed(data)
        if view.at >= size.bytes and not size.ended:
            await anyio.sleep(PACE_S)  # gather what is printed meanwhile: ten events a second are fast enough
    yield view.finish() + _event("end", [])


def _line_start(logs: Logs, attempt_id: str, offset: int) -> int:
    """The first start of a line at or after `offset`; `offset` itself inside a line longer than a chunk."""
    return offset + logs.read(attempt_id, offset, offset + CHUNK).find(b"\n") + 1


class _LiveView:
    """What one reader has seen: the number of the next line, the bytes read, the colours in force."""

    def __init__(self, number: int, offset: int) -> None:
        self.at = offset
        self._number = number
        self._whole = offset  # the end of the last whole line
        self._folder, self._style = LineFolder(), Style()

    def feed(self, data: bytes) -> str:
        lines = [self._line(raw) for raw in self._folder.feed(data)]
        if lines:
            self._whole = self.at + data.rfind(b"\n") + 1
        self.at += len(data)
        events = _event("lines", lines, self._whole) if lines else ""
        return events + self._partial()

    def jump(self, to: int, number: int) -> str:
        missed = number - self._number
        text = f'<div class="skip">{missed:,} lines came too fast to show here: see the raw log</div>'
        self.at = self._whole = to
        self._number, self._folder, self._style = number, LineFolder(), Style()
        return _event("skip", [text], to)

    def finish(self) -> str:
        """The last line, where the job did not end it with a newline."""
        if self._whole == self.at:
            return ""
        self._whole = self.at
        return _event("lines", [self._line(self._folder.take())], self.at)

    def _partial(self) -> str:
        html, _ = render_line(self._folder.peek(), self._style) if self._whole < self.at else ("", None)
        return _event("partial", [html])

    def _line(self, raw: bytes) -> str:
        html, self._style = render_line(raw, self._style)
        self._number += 1
        return line_html(self._number - 1, html)


def _event(name: str, lines: list[str], offset: int | None = None) -> str:
    head = f"event: {name}\n" + (f"id: {offset}\n" if offset is not None else "")
    return head + "".join(f"data: {line}\n" for line in lines or [""]) + "\n"


def raw_log(logs: Logs, attempt_id: str, filename: str) -> Response:
    """The whole log as the job printed it (secrets masked by the runner), as a file to save."""
    size = logs.size(attempt_id).bytes

    def pieces() -> Iterator[bytes]:
        for start in range(0, size, BEHIND):
            yield logs.read(attempt_id, start, min(size, start + BEHIND))

    headers = download_headers(filename) | {"content-length": str(size), "cache-control": "no-store"}
    return StreamingResponse(pieces(), headers=headers)
