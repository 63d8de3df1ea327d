"""Hands out this server's own wheel."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from dstack.errors import NotFound
from dstack.server.services.build_wheel import WHEEL, build_wheel


async def get_wheel(request: Request) -> Response:
    """Open to all: it holds what anyone can install."""
    if request.path_params["name"] != WHEEL:
        raise NotFound("this server has only its own wheel", f"It is /wheels/{WHEEL}.")
    return Response(await asyncio.to_thread(build_wheel), media_type="application/zip")
