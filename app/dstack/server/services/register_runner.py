"""Lets a runner introduce itself and gives it its own token."""

from __future__ import annotations

from sqlmodel import Session

from dstack.errors import Conflict, Invalid
from dstack.server.bus import QUEUE
from dstack.server.clock import Clock
from dstack.server.models import Runner, Token
from dstack.server.models.token import TokenKind
from dstack.server.store.attempts import live_attempts_of_runner, offers_of_runner
from dstack.server.store.database import wake
from dstack.server.store.people import delete_tokens_of_runner, digest_token
from dstack.server.store.runners import runner_by_name
from dstack.wire.codec import to_dict
from dstack.wire.runner import Capacity, Registered, Registration

MAX_CPUS = 65536
MAX_MEMORY = 2**60


def register_runner(session: Session, registration: Registration, clock: Clock) -> Registered:
    """A new runner, or the same name again (a machine set up anew): its old token stops working."""
    check_runner(registration.name, registration.capacity)
    now = clock.now()
    runner = runner_by_name(session, registration.name)
    if runner is None:
        runner = Runner(name=registration.name, capacity={}, registered_at=now, last_seen_at=now)
    elif runner.is_online(now) and live_attempts_of_runner(session, runner.id or 0):
        raise Conflict(
            f"a runner called {registration.name} is online and has jobs", "Choose another DSTACK_RUNNER_NAME."
        )
    runner.capacity, runner.version, runner.last_seen_at = (
        to_dict(registration.capacity),
        registration.version[:50],
        now,
    )
    session.add(runner)
    session.flush()
    delete_tokens_of_runner(session, runner.id or 0)
    token = clock.new_token()
    session.add(Token(digest=digest_token(token), kind=TokenKind.RUNNER, runner_id=runner.id, created_at=now))
    wake(session, QUEUE)
    return Registered(str(runner.id), runner.name, token)


def see_runner(session: Session, runner: Runner, capacity: Capacity, *, draining: bool, now: float) -> None:
    """Note that a runner polled, and what it has now."""
    check_runner(runner.name, capacity)
    fresh = to_dict(capacity)
    if fresh != runner.capacity or draining != runner.draining or not runner.is_online(now):
        runner.capacity, runner.draining = fresh, draining
        wake(session, QUEUE)
    runner.last_seen_at = now
    session.add(runner)


def remove_runner(session: Session, runner: Runner) -> None:
    """Forget a runner: its token dies, its row stays for history while attempts refer to it."""
    if live_attempts_of_runner(session, runner.id or 0):
        raise Conflict(f"{runner.name} has jobs", "Stop them, or wait for their end.")
    delete_tokens_of_runner(session, runner.id or 0)
    for offer in offers_of_runner(session, runner.id or 0):
        offer.expires_at = 0
        session.add(offer)
    runner.last_seen_at = 0
    runner.name = f"{runner.name} (removed {runner.id})"
    session.add(runner)
    wake(session, QUEUE)


def check_runner(name: str, capacity: Capacity) -> None:
    """Bounds on what a runner may say of itself. Raises Invalid."""
    if not name or len(name) > 100 or any(not c.isprintable() for c in name):
        raise Invalid(f"{name[:100]!r} is not a runner name", "Use 1 to 100 printable characters.")
    labels = capacity.labels
    if len(labels) > 100 or any(not label or len(label) > 100 or not label.isprintable() for label in labels):
        raise Invalid("runner labels: at most 100, each 1 to 100 printable characters")
    devices = capacity.devices
    if len(devices) > 256 or len({d.id for d in devices}) != len(devices):
        raise Invalid("runner devices: at most 256, each with an id of its own")
    if any(not _is_word(d.id) or not _is_word(d.name) or not 0 <= d.memory <= MAX_MEMORY for d in devices):
        raise Invalid("runner devices: id and name are 1 to 200 printable characters, memory is not negative")
    if not 0 < capacity.slots <= 1024 or not 0 <= capacity.cpu <= MAX_CPUS or not 0 <= capacity.memory <= MAX_MEMORY:
        raise Invalid(
            f"runner capacity: slots must be 1 to 1024, cores 0 to {MAX_CPUS}, memory 0 to {MAX_MEMORY} bytes"
        )


def _is_word(text: str) -> bool:
    return 0 < len(text) <= 200 and text.isprintable()
