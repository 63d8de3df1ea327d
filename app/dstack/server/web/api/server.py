"""The server itself."""

from __future__ import annotations

import asyncio

from dstack.server.services.prune import prune
from dstack.server.web.access import Audience, user_name
from dstack.server.web.operation import Call, Operations
from dstack.version import __version__
from dstack.wire.api import PruneRequest, PruneView, ServerView
from dstack.wire.runner import PROTOCOL

operations = Operations()


@operations.add("GET", "/api/v1/server", Audience.USER, gives=ServerView)
async def get_server(call: Call) -> ServerView:
    """Version and address of the server, and who asks."""
    assert call.caller is not None and call.caller.user is not None
    return ServerView(
        __version__, PROTOCOL, call.wiring.settings.public_url, user_name(call.caller), call.caller.user.role.value
    )


@operations.add("POST", "/api/v1/prune", Audience.ADMIN, takes=PruneRequest, gives=PruneView)
async def prune_store(call: Call) -> PruneView:
    """Removes runs that ended long ago and what nothing refers to any more, or only counts them."""
    return await asyncio.to_thread(prune, call.wiring, call.body)
