"""Sends signed webhooks over kept connections, as fast as they are answered, and records how long each answer took."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import urlsplit

import uvloop


@dataclass
class Sent:
    """Seconds until each answer, the statuses, and the seconds for all of them."""

    took: list[float] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    wall_s: float = 0.0

    @property
    def rate(self) -> float:
        return len(self.took) / self.wall_s

    def ms(self, part: float) -> float:
        """The time within which this part of the answers came."""
        return 1000 * sorted(self.took)[min(len(self.took) - 1, int(part * len(self.took)))]


def request(path: str, event: str, guid: str, payload: dict[str, Any], secret: str) -> bytes:
    body = json.dumps(payload).encode()
    signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        f"User-Agent: GitHub-Hookshot/bench\r\nX-GitHub-Event: {event}\r\nX-GitHub-Delivery: {guid}\r\n"
        f"X-Hub-Signature-256: sha256={signature}\r\n\r\n"
    )
    return head.encode() + body


def send_all(url: str, requests: Sequence[bytes], clients: int) -> Sent:
    """All of them, each client one after another."""
    sent = Sent()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_send(url, iter(requests), clients, sent))
    return sent


async def _send(url: str, requests: Iterator[bytes], clients: int, sent: Sent) -> None:
    address, loop = urlsplit(url), asyncio.get_running_loop()
    done = [loop.create_future() for _ in range(clients)]
    ready = [
        (await loop.create_connection(lambda end=end: _Client(requests, sent, end), address.hostname, address.port))[1]
        for end in done
    ]
    began = time.perf_counter()
    for client in ready:
        client.next()
    await asyncio.gather(*done)
    sent.wall_s = time.perf_counter() - began


class _Client(asyncio.Protocol):
    def __init__(self, requests: Iterator[bytes], sent: Sent, done: asyncio.Future[None]) -> None:
        self._requests, self._sent, self._done = requests, sent, done
        self._began, self._got = 0.0, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def next(self) -> None:
        data = next(self._requests, None)
        if data is None:
            self._transport.close()
            return
        self._began, self._got = time.perf_counter(), b""
        self._transport.write(data)

    def data_received(self, data: bytes) -> None:
        self._got += data
        head, end, body = self._got.partition(b"\r\n\r\n")
        if not end or len(body) < _length(head):
            return
        self._sent.took.append(time.perf_counter() - self._began)
        self._sent.statuses.append(int(head.split(b" ", 2)[1]))
        self.next()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            self._done.set_result(None)


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0
