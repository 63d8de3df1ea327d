"""Serves until told to stop: binds, starts uvicorn and the runner beside it, and leaves in order."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType

import uvicorn
from sqlmodel import Session

from dstack.errors import Conflict
from dstack.server.asgi import make_app
from dstack.server.bootstrap import Started, start
from dstack.server.models.token import TokenKind
from dstack.server.runner_beside import RunnerBeside
from dstack.server.services.manage_users import ADMIN, SIGN_IN_S, make_token
from dstack.server.settings import Settings
from dstack.server.store.people import user_by_name
from dstack.server.wiring import Wiring

log = logging.getLogger(__name__)
_DRAIN_S = 10


@dataclass(frozen=True, slots=True)
class Address:
    """What to tell the person who started the server."""

    url: str
    sign_in: str
    first_token: str | None


def serve(settings: Settings, *, runner: bool, ready: Callable[[Address], None]) -> None:
    """Blocks until SIGTERM or SIGINT. `ready` is called once `/healthz` answers. Raises Conflict for a taken port."""
    with _bind(settings) as listener:
        settings = settings.model_copy(update={"port": listener.getsockname()[1]})
        with start(settings) as started:
            asyncio.run(_serve(started, listener, runner, ready))


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
    server = _Server(config, wiring)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started and not serving.done():
        await asyncio.sleep(0.01)
    beside = RunnerBeside(wiring) if runner and server.started else None
    if beside is not None:
        await beside.start()
    if server.started:
        ready(Address(wiring.settings.public_url, _sign_in_link(wiring), started.first_token))
    try:
        await serving
    finally:
        if beside is not None:
            await beside.stop()


class _Server(uvicorn.Server):
    """Ends open polls and streams at the first signal, else every stop would wait for them."""

    def __init__(self, config: uvicorn.Config, wiring: Wiring) -> None:
        super().__init__(config)
        self._bus, self._loop = wiring.bus, asyncio.get_running_loop()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._loop.call_soon_threadsafe(self._bus.close)
        super().handle_exit(sig, frame)


def _sign_in_link(wiring: Wiring) -> str:
    clock = wiring.clock

    def unit(session: Session) -> str:
        admin = user_by_name(session, ADMIN)
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
