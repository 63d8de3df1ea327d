"""Leases while the server's own clock jumps or the server is held up."""

from __future__ import annotations

import pytest
from server_clock import FakeClock

from dstack.server.decide.plan import GroupPlan, RunPlan
from dstack.server.models import Attempt, Repo, Runner
from dstack.server.services.accept_offer import accept_offer
from dstack.server.services.assign_jobs import assign_jobs
from dstack.server.services.create_group import create_group
from dstack.server.services.register_runner import register_runner
from dstack.server.store.attempts import all_offers, attempt_by_id
from dstack.server.timers import LeaseWatch
from dstack.server.wiring import Wiring
from dstack.wire.job import Command, Job
from dstack.wire.runner import LEASE_S, Capacity, Registration
from dstack.wire.states import AttemptState, Trigger


@pytest.fixture
def attempt(wiring: Wiring, clock: FakeClock) -> str:
    """The id of an attempt that has just begun."""
    db, now = wiring.db, clock.now()
    db.write(lambda s: s.add(Repo(owner="o", name="n", created_at=now)))
    plan = GroupPlan("g", 1, "a" * 40, Trigger.PUSH, (RunPlan("r", "train", (Job((Command("true"),)),)),))
    db.write(lambda s: create_group(s, plan, now))
    db.write(lambda s: register_runner(s, Registration("one", Capacity(cpu=1, memory=1 << 30)), clock))
    db.write(lambda s: assign_jobs(s, clock))
    (offer,) = db.read(all_offers)
    db.write(lambda s: accept_offer(s, s.get_one(Runner, offer.runner_id), offer.id, wiring.vault, now))
    return offer.id


def look_after(wiring: Wiring, clock: FakeClock, watch: LeaseWatch, *pauses: float) -> None:
    for pause in pauses:
        clock.pass_time(pause)
        watch.look(wiring)


def found(wiring: Wiring, attempt: str) -> Attempt:
    row = wiring.db.read(lambda s: attempt_by_id(s, attempt))
    assert row is not None
    return row


def test_a_runner_that_is_silent_for_its_term_loses_its_attempt(wiring: Wiring, clock: FakeClock, attempt: str) -> None:
    watch = LeaseWatch(LEASE_S)
    look_after(wiring, clock, watch, *[5.0] * 12)
    assert not found(wiring, attempt).state.is_final
    look_after(wiring, clock, watch, 5.0)
    assert found(wiring, attempt).state is AttemptState.LOST


@pytest.mark.parametrize("jump", [3600.0, 86400.0, -3600.0, 70.0])
def test_a_clock_that_jumps_costs_no_attempt_and_keeps_no_dead_one(
    wiring: Wiring, clock: FakeClock, attempt: str, jump: float
) -> None:
    watch = LeaseWatch(LEASE_S)
    look_after(wiring, clock, watch, 5.0, jump)
    assert not found(wiring, attempt).state.is_final
    assert found(wiring, attempt).lease_until == clock.now() + LEASE_S
    look_after(wiring, clock, watch, *[5.0] * 13)
    assert found(wiring, attempt).state is AttemptState.LOST
