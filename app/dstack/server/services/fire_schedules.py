"""Files a delivery for each schedule that is due; each nominal time at most once, whoever asks and however often."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlmodel import Session

from dstack.server.decide.due import judge_due
from dstack.server.models import Schedule
from dstack.server.models.delivery import DeliveryState
from dstack.server.store.schedules import schedules_due
from dstack.server.transitions.deliveries import receive_delivery
from dstack.server.wiring import Wiring


def fire_schedules(wiring: Wiring) -> int:
    """How many runs were asked for. The time a schedule waits for moves on in the unit that files its delivery."""
    now = wiring.clock.now()
    if not wiring.db.read(lambda s: schedules_due(s, now)):
        return 0
    return wiring.db.write(lambda s: sum(_fire(s, schedule, now) for schedule in schedules_due(s, now)))


def _fire(session: Session, schedule: Schedule, now: float) -> int:
    due = judge_due(schedule.cron, schedule.timezone, schedule.missed, schedule.due_at, now)
    if due.left_out:
        _file(session, schedule, due.left_out[-1], now, ignored=_words(due.left_out, due.why))
    if due.run_for is not None:
        _file(session, schedule, due.run_for, now)
    if due.next_at is None:
        session.delete(schedule)
    else:
        schedule.due_at = due.next_at
        session.add(schedule)
    return int(due.run_for is not None)


def _file(session: Session, schedule: Schedule, nominal: float, now: float, ignored: str = "") -> None:
    delivery = receive_delivery(
        session,
        "schedule",
        f"schedule:{schedule.repo_id}:{schedule.workflow}:{nominal:.0f}",
        {"workflow": schedule.workflow, "nominal": nominal},  # two entries due at one time are one
        repo_id=schedule.repo_id,
        sender="schedule",
        now=now,
    )
    if ignored and delivery.state is DeliveryState.RECEIVED:
        delivery.state, delivery.reason, delivery.processed_at = DeliveryState.IGNORED, ignored, now
        session.add(delivery)


def _words(left_out: tuple[float, ...], why: str) -> str:
    first, last = (datetime.fromtimestamp(t, UTC).strftime("%Y-%m-%d %H:%M UTC") for t in (left_out[0], left_out[-1]))
    times = f"not run for {first}" if len(left_out) == 1 else f"not run for {len(left_out)} times, {first} to {last}"
    return f"{times}: {why}"
