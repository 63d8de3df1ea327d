"""Events that programs post: new data came in, a monitor saw drift."""

from __future__ import annotations

from sqlmodel import Session

from dstack.errors import Invalid
from dstack.server.models import Delivery
from dstack.server.store.deliveries import groups_of_delivery
from dstack.server.store.runs import runs_of_group
from dstack.server.store.views import view_runs
from dstack.server.transitions.deliveries import receive_delivery
from dstack.server.web.access import Audience, user_name
from dstack.server.web.api.runs import MAX_KEY, delivery_settled, find_repo
from dstack.server.web.disk_space import check_disk
from dstack.server.web.operation import Call, Operations
from dstack.wire.api import EventRequest, EventView

operations = Operations()
_START_S = 30.0
_MAX_VALUES = 100


@operations.add("POST", "/api/v1/events", Audience.USER, takes=EventRequest, gives=EventView, status=201)
async def post_event(call: Call) -> EventView:
    """Starts the workflows on the default branch that wait for this event."""
    wiring, request, sender = call.wiring, call.body, user_name(call.caller)
    check_disk(wiring)
    _check(request)
    repo = wiring.db.read(lambda s: find_repo(s, request.repo))
    guid = f"event:{repo.id}:{request.idempotency_key or wiring.clock.new_id()}"
    body = {"event": request.event, "variables": {name: _text(value) for name, value in request.payload.items()}}
    now = wiring.clock.now()
    delivery = await wiring.db.write_async(
        lambda s: receive_delivery(s, "event", guid, body, repo_id=repo.id, sender=sender, now=now)
    )
    settled = await delivery_settled(call, delivery.id or 0, _START_S)
    return await wiring.db.read_async(lambda s: _view(s, settled))


def _check(request: EventRequest) -> None:
    if not request.event or len(request.event) > 100:
        raise Invalid("an event has a name of 1 to 100 characters")
    if len(request.idempotency_key) > MAX_KEY:
        raise Invalid(f"an idempotency key has at most {MAX_KEY} characters")
    if len(request.payload) > _MAX_VALUES:
        raise Invalid(f"a payload has at most {_MAX_VALUES} values")


def _text(value: str | int | float | bool) -> str:
    """As it would be written in a file: JSON's `true` is `true`."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _view(session: Session, delivery: Delivery) -> EventView:
    groups = groups_of_delivery(session, delivery.id or 0)
    runs = [run for group in groups for run in runs_of_group(session, group.id or 0)]
    return EventView(delivery.id or 0, delivery.state.value, delivery.reason, view_runs(session, runs))
