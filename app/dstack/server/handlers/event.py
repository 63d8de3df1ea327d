"""An event was posted to the API: workflows that wait for it start, with those of its values that they declare."""

from __future__ import annotations

from dstack.language import Event
from dstack.server.handlers.default_branch import start_on_default_branch
from dstack.server.handlers.registry import handles
from dstack.server.models import Delivery
from dstack.server.wiring import Wiring
from dstack.wire.states import Trigger


@handles("event")
def handle_event(wiring: Wiring, delivery: Delivery) -> None:
    event = Event(trigger=Trigger.EVENT, event=delivery.body["event"])
    start_on_default_branch(wiring, delivery, event, variables=delivery.body["variables"], fresh=True)
