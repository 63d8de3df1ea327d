"""A TCP proxy in front of one port, which a test makes slow, cut, deaf or wrong while connections run through it.

It knows where an HTTP request begins (a client that speaks after being answered begins one), so that a fault can be
meant for one call: `on("finish", LoseReply())`. It stores nothing; `observe` sees every byte of both sides.
"""

from __future__ import annotations

import contextlib
import random
import re
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass

CHUNK = 256 * 1024
Observer = Callable[[int, str, bytes], None]  # connection, "up" (to the server), "down" or "lost", bytes


@dataclass(frozen=True)
class Reset:
    """The connection is reset before the server hears anything."""


@dataclass(frozen=True)
class LoseReply:
    """The server hears and answers; the client's connection is reset instead."""


@dataclass(frozen=True)
class Answer:
    """The proxy answers with this status; the server hears nothing."""

    status: int


@dataclass(frozen=True)
class CutAt:
    """The connection is reset after so many bytes of the request."""

    count: int


@dataclass(frozen=True)
class Hang:
    """The request is swallowed and nothing ever comes, as from a half-open connection."""


Fault = Reset | LoseReply | Answer | CutAt | Hang
MIXED: tuple[Fault, ...] = (Answer(500), Answer(502), Answer(503), Answer(429), Reset(), LoseReply())


class TcpProxy:
    """Listens on a free port of loopback from `start` to `close`. Every method may be called from any thread."""

    def __init__(self, target: tuple[str, int], observe: Observer | None = None) -> None:
        self._target = target
        self._observe = observe or (lambda connection, way, data: None)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = int(self._listener.getsockname()[1])
        self._guard = threading.Condition()
        self._open: dict[int, _Connection] = {}
        self._rules: list[tuple[re.Pattern[str], Fault, int]] = []
        self._share, self._random = 0.0, random.Random()
        self._cut = self._deaf = self._closed = False
        self.delay_s = 0.0
        self.connections = 0
        self.played: list[tuple[str, Fault]] = []  # request line and fault, as they happened

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> TcpProxy:
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()
        return self

    def close(self) -> None:
        self._closed = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.reset_all()

    # What a test asks for

    def cut(self) -> None:
        """The network is gone: connections are reset, new ones are refused."""
        self._cut = True
        self.reset_all()

    def mend(self) -> None:
        """Everything flows again; connections that stood still are reset."""
        was_deaf, self._cut, self._deaf = self._deaf, False, False
        if was_deaf:
            self.reset_all()

    def deafen(self) -> None:
        """Connections stay open and new ones are taken, but nothing flows in either direction."""
        self._deaf = True

    def reset_all(self) -> None:
        with self._guard:
            connections = list(self._open.values())
        for connection in connections:
            connection.reset()

    def on(self, pattern: str, fault: Fault, times: int = 1) -> None:
        """Play `fault` on the next `times` requests whose first line matches."""
        with self._guard:
            self._rules.append((re.compile(pattern), fault, times))

    def mix(self, share: float, seed: int) -> None:
        """Play a random fault of MIXED on this share of all requests; 0 ends it."""
        with self._guard:
            self._share, self._random = share, random.Random(seed)

    def wait_played(self, count: int, timeout_s: float) -> bool:
        """Whether so many faults have been played within the time."""
        with self._guard:
            return self._guard.wait_for(lambda: len(self.played) >= count, timeout_s)

    # What connections ask

    @property
    def is_deaf(self) -> bool:
        return self._deaf

    def choose(self, line: str) -> Fault | None:
        """The fault for a request that begins now."""
        with self._guard:
            fault = self._ruled(line)
            if fault is None and self._random.random() < self._share:
                fault = self._random.choice(MIXED)
            if fault is not None:
                self.played.append((line, fault))
                self._guard.notify_all()
            return fault

    def observe(self, connection: int, way: str, data: bytes) -> None:
        self._observe(connection, way, data)

    def forget(self, number: int) -> None:
        with self._guard:
            self._open.pop(number, None)

    def _ruled(self, line: str) -> Fault | None:
        for position, (pattern, fault, times) in enumerate(self._rules):
            if pattern.search(line):
                if times == 1:
                    del self._rules[position]
                else:
                    self._rules[position] = (pattern, fault, times - 1)
                return fault
        return None

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            if self._cut:
                _refuse(client)
                continue
            try:
                server = socket.create_connection(self._target, timeout=5)
            except OSError:
                _refuse(client)
                continue
            server.settimeout(None)
            connection = _Connection(self, self.connections, client, server)
            with self._guard:
                self._open[self.connections] = connection
            connection.start()


class _Connection:
    """One client and its own connection to the server; a thread for each direction."""

    def __init__(self, proxy: TcpProxy, number: int, client: socket.socket, server: socket.socket) -> None:
        self._proxy, self._number = proxy, number
        self._client, self._server = client, server
        self._idle = True  # the server has answered, or nothing was asked yet
        self._fault: Fault | None = None
        self._sent = 0
        self._ended = threading.Event()
        self._threads = 2
        self._guard = threading.Lock()

    def start(self) -> None:
        for target in (self._upstream, self._downstream):
            threading.Thread(target=self._carry, args=(target,), name=f"proxy-{self._number}", daemon=True).start()

    def _carry(self, target: Callable[[], None]) -> None:
        target()
        with self._guard:
            self._threads -= 1
            is_last = self._threads == 0
        if is_last:
            self._proxy.forget(self._number)
            self._client.close()
            self._server.close()

    def reset(self) -> None:
        """Both ends are aborted: closed, they send a reset. Safe to repeat."""
        self._ended.set()
        for end in (self._client, self._server):
            _abort(end)

    def _upstream(self) -> None:
        while data := self._receive(self._client):
            if self._idle:
                self._idle, self._sent = False, 0
                self._fault = self._proxy.choose(data.split(b"\r\n", 1)[0].decode("latin-1"))
            if not self._pass_up(data):
                return
        self._end()

    def _pass_up(self, data: bytes) -> bool:
        """Forward a piece of a request as its fault allows; False when that was its end."""
        fault = self._fault
        if isinstance(fault, Hang):
            return True
        if isinstance(fault, Reset):
            self.reset()
            return False
        if isinstance(fault, Answer):
            self._answer(fault.status)
            return False
        if isinstance(fault, CutAt) and self._sent + len(data) >= fault.count:
            self._send(self._server, data[: fault.count - self._sent], "up")
            self.reset()
            return False
        self._sent += len(data)
        return self._send(self._server, data, "up")

    def _downstream(self) -> None:
        while data := self._receive(self._server):
            if isinstance(self._fault, LoseReply):
                self._proxy.observe(self._number, "lost", data)
                self.reset()
                return
            self._idle = True
            if not self._send(self._client, data, "down"):
                return
        self._end()

    def _answer(self, status: int) -> None:
        body = b'{"error": "x", "message": "a fault of the test"}'
        head = f"HTTP/1.1 {status} Fault\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        with contextlib.suppress(OSError):
            self._client.sendall(head.encode() + body)
            self._client.shutdown(socket.SHUT_WR)
            self._client.settimeout(5)
            while self._client.recv(CHUNK):  # a client still sending would have its answer torn away by a reset
                pass
        self.reset()

    def _receive(self, end: socket.socket) -> bytes:
        try:
            return end.recv(CHUNK)
        except OSError:
            return b""

    def _send(self, end: socket.socket, data: bytes, way: str) -> bool:
        if self._proxy.is_deaf:
            return True  # swallowed
        if self._proxy.delay_s and self._ended.wait(self._proxy.delay_s):
            return False
        self._proxy.observe(self._number, way, data)
        try:
            end.sendall(data)
        except OSError:
            self.reset()
            return False
        return True

    def _end(self) -> None:
        """One side has closed: so does the other, gently."""
        if not self._proxy.is_deaf:
            for end in (self._client, self._server):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)


def _refuse(end: socket.socket) -> None:
    _abort(end)
    end.close()


def _abort(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
