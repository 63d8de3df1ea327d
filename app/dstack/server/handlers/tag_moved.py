"""A tag was moved: workflows that wait for it start."""

from __future__ import annotations

from dstack.language import Event
from dstack.server.handlers.default_branch import start_on_default_branch
from dstack.server.handlers.registry import handles
from dstack.server.models import Delivery
from dstack.server.wiring import Wiring
from dstack.wire.states import Trigger


@handles("tag-moved")
def handle_tag_moved(wiring: Wiring, delivery: Delivery) -> None:
    start_on_default_branch(wiring, delivery, Event(trigger=Trigger.TAG_MOVED, tag_moved=delivery.body["tag"]))
