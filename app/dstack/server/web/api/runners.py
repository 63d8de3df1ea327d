"""Runners: list and remove."""

from __future__ import annotations

from sqlmodel import Session

from dstack.errors import NotFound
from dstack.server.services.register_runner import remove_runner
from dstack.server.store.runners import list_runners, runner_by_name
from dstack.server.store.views import view_runners
from dstack.server.web.access import Audience
from dstack.server.web.operation import Call, Operations
from dstack.wire.api import RunnerView

operations = Operations()


@operations.add("GET", "/api/v1/runners", Audience.USER, gives=list[RunnerView])
async def get_runners(call: Call) -> list[RunnerView]:
    """All runners, what they have and what they do."""
    now = call.wiring.clock.now()
    return await call.wiring.db.read_async(lambda s: view_runners(s, list_runners(s), now))


@operations.add("DELETE", "/api/v1/runners/{name}", Audience.ADMIN, status=204)
async def delete_runner(call: Call) -> None:
    """Forgets a runner; its token stops working."""

    def unit(session: Session) -> None:
        runner = runner_by_name(session, call.path("name"))
        if runner is None or runner.last_seen_at == 0:
            raise NotFound(f"there is no runner {call.path('name')[:100]}")
        remove_runner(session, runner)

    await call.wiring.db.write_async(unit)
