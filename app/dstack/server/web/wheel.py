"""Hands out this server's own wheel."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from dstack.errors import NotFound
from dstack.server.services.build_wheel import WHEEL, build_wheel


def wheel_door(folder: Path) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint that builds the wheel at the first call. Open to all: it holds what anyone can install."""
    lock = asyncio.Lock()
    built: list[Path] = []

    async def get_wheel(request: Request) -> Response:
        if request.path_params["name"] != WHEEL:
            raise NotFound("this server has only its own wheel", f"It is /wheels/{WHEEL}.")
        async with lock:
            if not built:
                built.append(await asyncio.to_thread(build_wheel, folder))
        return FileResponse(built[0], media_type="application/zip")

    return get_wheel
