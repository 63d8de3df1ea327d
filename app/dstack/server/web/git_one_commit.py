"""Holds a fetch to the one commit that its caller may read: what it asks for is read here, before git sees it, and
handed on in our own words. What a request may look like is `git.wants`'s to know."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, MutableMapping
from typing import Any

from dstack.errors import Malformed, NotAllowed, TooLarge, TooSlow
from dstack.git.wants import MAX_ASK, PROTOCOL, held_to, unpacked
from dstack.server.web.git_process import Receive


def held_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers of a request as git may see them. Raises NotAllowed for another protocol: it begins with a list of
    all refs, and git asks there for no leave to send a tree or a file."""
    if PROTOCOL not in headers.get("git-protocol", "").split(":"):
        raise NotAllowed("this token reads by protocol version 2 alone", "Use git 2.18 or newer: protocol.version=2.")
    return {**headers, "git-protocol": PROTOCOL}


async def hold_to_one(
    sha: str, headers: Mapping[str, str], receive: Receive, within_s: float
) -> tuple[dict[str, str], Receive]:
    """A fetch as git may see it. Raises NotAllowed when it asks for anything but `sha`, Malformed, TooLarge, and
    TooSlow when it has not come in whole `within_s`."""
    try:
        async with asyncio.timeout(within_s):
            body = await _whole_body(receive)
    except TimeoutError:
        raise TooSlow(f"the request did not come in within {within_s:.0f} s") from None
    kept = dict(headers)
    if kept.pop("content-encoding", "") in ("gzip", "x-gzip"):
        body = unpacked(body)
    ask: list[MutableMapping[str, Any]] = [{"type": "http.request", "body": held_to(sha, body), "more_body": False}]

    async def receive_held() -> MutableMapping[str, Any]:
        return ask.pop() if ask else await receive()

    return kept, receive_held


async def _whole_body(receive: Receive) -> bytes:
    parts, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Malformed("the request breaks off")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > MAX_ASK:
            raise TooLarge(f"a fetch may ask with {MAX_ASK} bytes")
        more = message.get("more_body", False)
    return b"".join(parts)
