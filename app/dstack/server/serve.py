"""Serves until told to stop: binds, starts uvicorn and the runner beside it, and leaves in order."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import uvicorn
import uvloop
from sqlmodel import Session

from dstack.errors import Conflict
from dstack.server.asgi import make_app
from dstack.server.bootstrap import Started, start
from dstack.server.models.token import TokenKind
from dstack.server.runner_beside import RunnerBeside
from dstack.server.services.manage_users import SIGN_IN_S, make_token
from dstack.server.settings import Settings
from dstack.server.store.people import first_admin
from dstack.server.wiring import Wiring

log = logging.getLogger(__name__)
_DRAIN_S = 10
_ARENA_MAX = -8  # M_ARENA_MAX of mallopt(3)


@dataclass(frozen=True, slots=True)
class Address:
    """What to tell the person who started the server."""

    url: str
    sign_in: str
    first_token: str | None


def serve(settings: Settings, *, runner: bool, ready: Callable[[Address], None]) -> None:
    """Blocks until a signal. SIGTERM lets the jobs of the runner beside go on without the server; SIGINT (Ctrl-C) stops
    them. `ready` is called once `/healthz` answers. Raises Conflict for a taken port."""
    _share_heaps()
    with _bind(settings) as listener:
        settings = settings.model_copy(update={"port": listener.getsockname()[1]})
        with start(settings) as started, asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
            loop.run(_serve(started, listener, runner, ready))


async def _serve(started: Started, listener: socket.socket, runner: bool, ready: Callable[[Address], None]) -> None:
    wiring = started.wiring
    config = uvicorn.Config(
        make_app(wiring),
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_DRAIN_S,
        timeout_keep_alive=75,
        ws="none",
    )
    # What is here now stays for good: left among what may go, every full collection would hold up all requests for the
    # 100 ms it takes to look through it.
    gc.collect()
    gc.freeze()
    beside = RunnerBeside(wiring)
    server = _Server(config, wiring, beside)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started and not serving.done():
        await asyncio.sleep(0.01)
    if server.started:
        if runner:
            beside.start()
        ready(Address(wiring.settings.public_url, _sign_in_link(wiring), started.first_token))
    await serving


def _share_heaps() -> None:
    """Else glibc gives nearly every thread a heap of its own, and each keeps the most it ever had. A hint: where there
    is no such call, nothing is lost but memory."""
    limit = getattr(ctypes.CDLL(None), "mallopt", None)
    if limit is not None:
        limit(_ARENA_MAX, 2)


class _Server(uvicorn.Server):
    """Leaves in order: first the runner beside (it still has things to report), then open polls, then the rest."""

    def __init__(self, config: uvicorn.Config, wiring: Wiring, beside: RunnerBeside) -> None:
        super().__init__(config)
        self._bus, self._beside = wiring.bus, beside
        self._leaving: asyncio.Task[None] | None = None

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """In place of uvicorn's, which sends itself the signal again at the end and so would cut our own end short."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)
        yield

    def _on_signal(self, number: signal.Signals) -> None:
        if self._leaving is not None:
            self._beside.kill()
            self.force_exit = self.should_exit = True
            return
        self._leaving = asyncio.create_task(self._leave(leave_jobs=number is signal.SIGTERM))

    async def _leave(self, *, leave_jobs: bool) -> None:
        try:
            await self._beside.stop(leave_jobs=leave_jobs)
        finally:
            self._bus.close()
            self.should_exit = True


def _sign_in_link(wiring: Wiring) -> str:
    clock = wiring.clock

    def unit(session: Session) -> str:
        admin = first_admin(session)
        assert admin is not None
        return make_token(session, admin, clock, TokenKind.SIGN_IN, SIGN_IN_S)

    return f"{wiring.settings.public_url}/sign-in?code={wiring.db.write(unit)}"


def _bind(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        raise Conflict(
            f"cannot listen on {settings.host}:{settings.port}: {error.strerror}",
            "Choose another with --port, or stop what uses it.",
        ) from None
    listener.listen(2048)
    return listener
