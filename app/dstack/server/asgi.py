"""The ASGI application: every door in one table of routes, and the workers beside them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import cache
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Match, Mount, Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from dstack.errors import DstackError
from dstack.server.services.hold_lease import grant_fresh_terms
from dstack.server.timers import start_timers
from dstack.server.web import runner_api, runner_content
from dstack.server.web.api import OPERATIONS
from dstack.server.web.delivery_pages import DeliveryPages
from dstack.server.web.git_access import GitDoor
from dstack.server.web.git_remote import GitLimits, GitRemote
from dstack.server.web.github_pages import GithubPages
from dstack.server.web.openapi import describe
from dstack.server.web.operation import make_routes
from dstack.server.web.page_guard import SessionGuard
from dstack.server.web.page_views import StoreActions, StoreLogs, StoreViews
from dstack.server.web.pages import Pages
from dstack.server.web.problems import answer_crash, answer_http, answer_problem
from dstack.server.web.security_headers import SecurityHeaders
from dstack.server.web.webhook import webhook_route
from dstack.server.web.wheel import get_wheel
from dstack.server.wiring import Wiring
from dstack.server.workers import make_workers, run_worker

_THREADS = 32
ALL_OPERATIONS = [*OPERATIONS, *runner_api.operations.all, *runner_content.operations.all]


def make_app(wiring: Wiring) -> ASGIApp:
    """The whole server as one application."""
    door = GitDoor(wiring)
    remote = GitRemote(
        wiring.git,
        door.authorize,
        door.on_push,
        wiring.settings.data / "hooks",
        GitLimits(push_bytes=wiring.settings.max_push_bytes),
    )

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        wiring.bus.attach(asyncio.get_running_loop())
        # The default has six threads on two cores: a pruning, a packing and a few pushes would hold up every read.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_THREADS, "dstack"))
        tasks = [asyncio.create_task(run_worker(wiring, worker), name=worker.name) for worker in make_workers(wiring)]
        # From here on runners can renew; until now nobody could, so no lease may have run out for that.
        await wiring.db.write_async(lambda s: grant_fresh_terms(s, wiring.clock.now(), wiring.settings.lease_s))
        timers = start_timers(wiring)
        yield
        timers.shutdown(wait=False)
        await remote.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    app = Starlette(
        routes=_routes(wiring, remote),
        lifespan=lifespan,
        exception_handlers={DstackError: answer_problem, HTTPException: answer_http, Exception: answer_crash},
    )
    # A redirect would be built from the Host header, which the caller chooses.
    app.router.redirect_slashes = False
    # Around everything: the framework's own 500 is made outside its middleware.
    return SecurityHeaders(app)


def _routes(wiring: Wiring, remote: GitRemote) -> list[BaseRoute]:
    pages = Pages(
        views=StoreViews(wiring),
        actions=StoreActions(wiring),
        logs=StoreLogs(wiring),
        guard=SessionGuard(wiring),
        clock=lambda: datetime.fromtimestamp(wiring.clock.now(), UTC),
        public_url=wiring.settings.public_url,
    )

    @cache
    def description() -> dict[str, Any]:
        return describe(ALL_OPERATIONS, wiring.settings.public_url)

    async def openapi(request: Request) -> Response:
        # Making it takes a tenth of a second: no start of the server waits for it, and no other request.
        return JSONResponse(await asyncio.to_thread(description))

    async def healthz(request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def no_page(request: Request) -> Response:
        raise HTTPException(404)

    api = make_routes(ALL_OPERATIONS, wiring)
    return [
        Route("/healthz", healthz),
        webhook_route(wiring),  # near the front: they come in bursts
        Route("/api/openapi.json", openapi),
        Route("/wheels/{name}", get_wheel),
        *api,
        Mount("/api", Router(redirect_slashes=False, default=_no_operation(api))),
        Mount("/git", remote),
        *pages.routes(),
        *DeliveryPages(wiring, pages.shell).routes(),
        *GithubPages(wiring, pages.shell).routes(),
        Route("/{path:path}", pages.shell.edge(no_page)),
    ]


def _no_operation(api: Sequence[Route]) -> ASGIApp:
    """What the rest of `/api` answers: 405 for an address that has other methods, else 404, both as JSON."""

    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        asked = {**scope, "root_path": ""}
        methods = {m for route in api if route.matches(asked)[0] is Match.PARTIAL for m in route.methods or ()}
        if methods:
            raise HTTPException(405, headers={"Allow": ", ".join(sorted(methods))})
        raise HTTPException(404)

    return refuse
