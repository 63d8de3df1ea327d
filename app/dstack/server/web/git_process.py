"""Runs one git process for one HTTP request: the body streams in and the answer streams out as each comes.

Knows ASGI and CGI, nothing of repositories. Everything waits in async; a process never outlives its request's end,
except a push whose body has come in whole: that one finishes even when the pusher has gone.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any

from dstack.git.backend import read_head

log = logging.getLogger(__name__)

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_CHUNK = 256 * 1024
_KILL_AFTER_S = 2.0


class GitProcess:
    """A running git process and the request it serves."""

    def __init__(self, process: Process, idle_s: float, max_body: int, finishes_alone: bool) -> None:
        self._process = process
        self._idle_s = idle_s
        self._body_left = max_body
        self._finishes_alone = finishes_alone
        self._moved_at = asyncio.get_running_loop().time()
        self._said = b""
        self._timed_out = False
        self._last_call: asyncio.TimerHandle | None = None

    @classmethod
    async def start(
        cls,
        argv: Sequence[str],
        env: Mapping[str, str],
        *,
        handed: Sequence[int] = (),
        idle_s: float,
        max_body: int,
        finishes_alone: bool = False,
    ) -> GitProcess:
        """Start it, in a session of its own so that it can be ended with its children. `max_body` is where the request
        is cut off: above what git itself refuses in words, since a client reads those only when its body is taken."""
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            env=dict(env),
            pass_fds=tuple(handed),
            start_new_session=True,
            limit=_CHUNK,
        )
        return cls(process, idle_s, max_body, finishes_alone)

    async def serve(self, receive: Receive, send: Send) -> None:
        """Carry the request and the answer until both have ended. The process is gone afterwards, whatever happens."""
        aside = [asyncio.create_task(work) for work in (self._feed(receive), self._listen(), self._watch())]
        try:
            await self._answer(send)
            await self._process.wait()
        except asyncio.CancelledError:
            self._signal(signal.SIGTERM)  # at once: the server stops, and may not come to what follows
            raise
        finally:
            for task in aside:
                task.cancel()
            await asyncio.gather(*aside, return_exceptions=True)
            await self._end()
            if self._last_call:
                self._last_call.cancel()
        if self._process.returncode:
            said = self._said.decode(errors="replace").strip()
            log.info(
                "git process ended", extra={"action": "git_process", "exit": self._process.returncode, "said": said}
            )

    async def _feed(self, receive: Receive) -> None:
        """The request's body into the process; then wait for the client to leave."""
        stdin = self._process.stdin
        assert stdin is not None
        more = True
        while True:
            message = await receive()
            self._moved()
            if message["type"] == "http.disconnect":
                if more or not self._finishes_alone:
                    self._interrupt()
                return
            if not more:
                continue
            body = message.get("body", b"")
            self._body_left -= len(body)
            if self._body_left < 0:
                self._interrupt()
                return
            try:
                stdin.write(body)
                await stdin.drain()
            except (BrokenPipeError, ConnectionResetError):
                pass  # git has its reasons and says them in the answer; the client reads it once its body is taken
            more = message.get("more_body", False)
            if not more:
                stdin.close()

    async def _answer(self, send: Send) -> None:
        stdout = self._process.stdout
        assert stdout is not None
        try:
            head = await stdout.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            await send_text(send, 408 if self._timed_out else 500, "git ended without an answer; try again\n")
            return
        status, headers = read_head(head)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        while chunk := await stdout.read(_CHUNK):
            self._moved()
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def _listen(self) -> None:
        """Keep the last of what the process says on standard error."""
        stderr = self._process.stderr
        assert stderr is not None
        while chunk := await stderr.read(4096):
            self._said = (self._said + chunk)[-4096:]

    async def _watch(self) -> None:
        """End a request in which nothing has moved for too long, on either side."""
        loop = asyncio.get_running_loop()
        while (left := self._moved_at + self._idle_s - loop.time()) > 0:
            await asyncio.sleep(left)
        self._timed_out = True
        self._interrupt()

    def _interrupt(self) -> None:
        """Stop before the request is whole. A push is ended by the end of its input: its pack then fails its checksum,
        nothing is changed, and git removes what it has received, which after a signal it would leave lying."""
        if self._finishes_alone and self._process.stdin is not None:
            self._process.stdin.close()
            self._last_call = asyncio.get_running_loop().call_later(_KILL_AFTER_S, self._signal, signal.SIGTERM)
        else:
            self._signal(signal.SIGTERM)

    def _moved(self) -> None:
        self._moved_at = asyncio.get_running_loop().time()

    def _signal(self, number: signal.Signals) -> None:
        if self._process.returncode is None:
            try:
                os.killpg(self._process.pid, number)
            except ProcessLookupError:
                pass  # it ended by itself this moment

    async def _end(self) -> None:
        """Make sure it is gone: by the end of its input where that leaves no litter, by TERM, by KILL."""
        if self._process.returncode is None and self._finishes_alone and self._process.stdin is not None:
            self._process.stdin.close()
            await self._gone_in_time()
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self._process.returncode is None:
                self._signal(number)
                await self._gone_in_time()

    async def _gone_in_time(self) -> None:
        try:
            await asyncio.wait_for(self._process.wait(), _KILL_AFTER_S)
        except TimeoutError:
            pass


async def send_text(send: Send, status: int, text: str, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
    """A short answer of our own: git shows a text body to its user."""
    body = text.encode("utf-8", "replace")
    fixed = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*fixed, *headers]})
    await send({"type": "http.response.body", "body": body})
