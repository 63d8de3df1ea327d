"""One API operation as data: who may call it, what goes in and out. Routes and the OpenAPI description come from it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dstack.errors import Malformed
from dstack.server.services.manage_users import Caller
from dstack.server.web.access import Audience, Pace, admit, the_runner
from dstack.server.web.content import read_body
from dstack.server.wiring import Wiring
from dstack.wire.codec import adapter, decode

JSON_LIMIT = 1024 * 1024
RUNNER_CALLS_PER_S = 200


@dataclass(frozen=True, slots=True)
class Call:
    """One request under way: the request, who calls (None: anyone), and the decoded body (None: none is taken)."""

    request: Request
    wiring: Wiring
    caller: Caller | None
    body: Any

    def path(self, name: str) -> str:
        return str(self.request.path_params[name])

    def query(self, name: str, default: str = "") -> str:
        return self.request.query_params.get(name, default)

    def number(self, name: str, default: int, least: int, most: int) -> int:
        """A whole number of the query. Raises Malformed outside the bounds."""
        text = self.query(name, str(default))
        if not text.isascii() or not text.isdecimal() or len(text) > 18 or not least <= int(text) <= most:
            raise Malformed(f"{name}={text[:40]!r} is not a whole number from {least} to {most}")
        return int(text)

    def switch(self, name: str) -> bool:
        return self.query(name) in ("1", "true", "yes")


Handler = Callable[[Call], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Operation:
    """`takes` and `gives` are wire classes; `gives` None means the handler answers with a Response of its own."""

    method: str
    path: str
    audience: Audience
    handler: Handler
    takes: type | None = None
    gives: Any = None
    status: int = 200
    limit: int = JSON_LIMIT
    queries: tuple[str, ...] = ()
    is_paced: bool = True
    errors: tuple[int, ...] = field(default=())

    @property
    def name(self) -> str:
        return getattr(self.handler, "__name__", "operation")


class Operations:
    """A list of operations that a door fills by decorator."""

    def __init__(self) -> None:
        self.all: list[Operation] = []

    def add(self, method: str, path: str, audience: Audience, **more: Any) -> Callable[[Handler], Handler]:
        def register(handler: Handler) -> Handler:
            self.all.append(Operation(method, path, audience, handler, **more))
            return handler

        return register


def make_routes(operations: list[Operation], wiring: Wiring) -> list[Route]:
    """Starlette routes that admit, decode, call and encode."""
    pace = Pace(RUNNER_CALLS_PER_S)
    return [Route(o.path, _endpoint(o, wiring, pace), methods=[o.method], name=o.name) for o in operations]


def _endpoint(operation: Operation, wiring: Wiring, pace: Pace) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        caller = admit(wiring, request, operation.audience)
        if operation.audience is Audience.RUNNER and operation.is_paced:
            pace.take(the_runner(caller).id)
        body: Any = None
        if operation.takes is not None:
            body = decode(operation.takes, await read_body(request, operation.limit))
        answer = await operation.handler(Call(request, wiring, caller, body))
        if isinstance(answer, Response):
            return answer
        if answer is None:
            return Response(status_code=204)
        data = adapter(operation.gives).dump_json(answer)
        return Response(data, operation.status, media_type="application/json")

    return endpoint
