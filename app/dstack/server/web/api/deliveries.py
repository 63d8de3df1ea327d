"""Deliveries: what came in, what it did, and handling one again."""

from __future__ import annotations

from sqlmodel import Session

from dstack.errors import Invalid, NotFound
from dstack.server.models.delivery import DeliveryState
from dstack.server.services.replay_delivery import replay_delivery
from dstack.server.store.delivery_views import DeliveryFilter, list_deliveries, view_delivery
from dstack.server.web.access import Audience, user_name
from dstack.server.web.api.runs import find_repo
from dstack.server.web.operation import Call, Operations
from dstack.server.wiring import own_login
from dstack.wire.api import DeliveryPage, DeliveryView

operations = Operations()
_ONE = "/api/v1/deliveries/{id}"


@operations.add(
    "GET",
    "/api/v1/deliveries",
    Audience.USER,
    gives=DeliveryPage,
    queries=("repo", "state", "own", "limit", "cursor"),
)
async def get_deliveries(call: Call) -> DeliveryPage:
    """Deliveries, newest first; without `own=1` not what GitHub tells our App of its own doings."""
    limit = call.number("limit", 20, 1, 500)
    cursor = call.number("cursor", 0, 0, 2**62) if call.query("cursor") else None
    state = call.query("state")
    if state and state not in list(DeliveryState):
        raise Invalid(f"{state[:40]!r} is not a state of deliveries; expected one of {', '.join(DeliveryState)}")

    def page(session: Session) -> DeliveryPage:
        repo = find_repo(session, call.query("repo")) if call.query("repo") else None
        own = "" if call.switch("own") or state else own_login(call.wiring)
        want = DeliveryFilter(repo.id if repo else None, state, cursor, own)
        rows = list_deliveries(session, want, limit + 1)
        return DeliveryPage(rows[:limit], str(rows[limit - 1].id) if len(rows) > limit else None)

    return await call.wiring.db.read_async(page)


@operations.add("GET", _ONE, Audience.USER, gives=DeliveryView)
async def get_delivery(call: Call) -> DeliveryView:
    """One delivery."""
    return await call.wiring.db.read_async(lambda s: _view(s, _number(call)))


@operations.add("POST", f"{_ONE}/replay", Audience.ADMIN, gives=DeliveryView, status=201)
async def post_replay(call: Call) -> DeliveryView:
    """Handles a delivery again, as a new one; runs that it has made are not made twice."""
    by, wiring = user_name(call.caller), call.wiring

    def unit(session: Session) -> DeliveryView:
        again = replay_delivery(session, _number(call), by=by, clock=wiring.clock)
        return _view(session, again.id or 0)

    return await wiring.db.write_async(unit)


def _number(call: Call) -> int:
    text = call.path("id")
    if not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise NotFound(f"there is no delivery {text[:40]}", "`dstack deliveries` lists them.")
    return int(text)


def _view(session: Session, delivery_id: int) -> DeliveryView:
    found = view_delivery(session, delivery_id)
    if found is None:
        raise NotFound(f"there is no delivery {delivery_id}", "`dstack deliveries` lists them.")
    return found
