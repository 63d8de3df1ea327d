"""A schedule is due: its workflow starts, also when nothing has changed since the last time."""

from __future__ import annotations

from datetime import UTC, datetime

from dstack.language import Event
from dstack.server.handlers.default_branch import start_on_default_branch
from dstack.server.handlers.registry import handles
from dstack.server.models import Delivery
from dstack.server.wiring import Wiring
from dstack.wire.states import Trigger


@handles("schedule")
def handle_schedule(wiring: Wiring, delivery: Delivery) -> None:
    nominal = float(delivery.body["nominal"])
    start_on_default_branch(
        wiring,
        delivery,
        Event(trigger=Trigger.SCHEDULE, workflow=delivery.body["workflow"]),
        schedule_time=datetime.fromtimestamp(nominal, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        scheduled_at=nominal,
        fresh=True,
    )
