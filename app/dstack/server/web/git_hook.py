"""The conversation between a push's hooks and the server, over two pipes that the git process inherits.

Knows the form of questions and answers; what is answered comes from outside. When the server dies, the pipes close:
a push that has not been accepted is then refused, one that has been stays accepted.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import IO

from dstack.git.pushes import MAX_UPDATES, RefUpdate, read_updates

MAX_ANSWER_BYTES = 24 * 1024  # both answers fit into a pipe unread, so writing one never blocks
_PIECE = 65536


@dataclass(frozen=True, slots=True)
class HookAnswer:
    """What the hook prints to the pusher, a line each, and whether it lets the push pass."""

    lines: Sequence[str] = ()
    passes: bool = True


Asked = Callable[[str, tuple[RefUpdate, ...]], Awaitable[HookAnswer]]


class HookPipes:
    """The two pipes of one push. `handed` are the ends for the git process, given up by `close_handed` once it runs."""

    def __init__(self) -> None:
        asked, ask = os.pipe()
        answered, answer = os.pipe()
        self._questions: IO[bytes] = os.fdopen(asked, "rb", buffering=0)
        self._answer = answer
        self.handed = (ask, answered)

    def environment(self) -> dict[str, str]:
        ask, answered = self.handed
        return {"DSTACK_HOOK_ASK": str(ask), "DSTACK_HOOK_ANSWER": str(answered)}

    def close_handed(self) -> None:
        for end in self.handed:
            os.close(end)

    def close(self) -> None:
        """Give up our own ends."""
        self._questions.close()
        os.close(self._answer)

    async def converse(self, asked: Asked) -> None:
        """Answer every hook of the push, until git and its hooks are gone."""
        reader, loop, source = asyncio.StreamReader(), asyncio.get_running_loop(), self._questions.fileno()
        os.set_blocking(source, False)
        # Not by connect_read_pipe: uvloop closes the descriptor, and then the file over it once more, which may by then
        # be a descriptor of another thread.
        loop.add_reader(source, lambda: _take(loop, source, reader))
        try:
            while hook := (await reader.readline()).decode().strip():
                answer = await asked(hook, read_updates(await _question(reader)))
                self._say(answer)
        finally:
            loop.remove_reader(source)
            self.close()

    def _say(self, answer: HookAnswer) -> None:
        text = "".join(f"+{_clean(line)}\n" for line in answer.lines).encode()[:MAX_ANSWER_BYTES]
        end = b"ok\n" if answer.passes else b"no\n"
        try:
            os.write(self._answer, text + (b"" if text.endswith(b"\n") or not text else b"\n") + end)
        except BrokenPipeError:
            pass  # the pusher went away and took the hook along


def _take(loop: asyncio.AbstractEventLoop, source: int, reader: asyncio.StreamReader) -> None:
    try:
        data = os.read(source, _PIECE)
    except BlockingIOError:
        return
    if data:
        reader.feed_data(data)
    else:
        loop.remove_reader(source)
        reader.feed_eof()


async def _question(reader: asyncio.StreamReader) -> list[bytes]:
    """The ref updates a hook was given, up to the line with a dot; more than may be pushed are not held."""
    lines: list[bytes] = []
    while (line := await reader.readline()) not in (b".\n", b""):
        if len(lines) <= MAX_UPDATES:
            lines.append(line)
    return lines


def _clean(line: str) -> str:
    return "".join(c if c.isprintable() else " " for c in line).encode("utf-8", "replace").decode()
