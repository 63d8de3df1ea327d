"""Pruning beside what others do at the same moment."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from server_clock import FakeClock
from sqlalchemy import update
from sqlmodel import Session, col, select

from dstack.server.decide.plan import GroupPlan, RunPlan
from dstack.server.models import Delivery, Group, Repo, Run, RunInput, Runner
from dstack.server.models.delivery import DeliveryState
from dstack.server.services import prune as pruner
from dstack.server.services.accept_offer import accept_offer
from dstack.server.services.assign_jobs import assign_jobs
from dstack.server.services.create_group import create_group
from dstack.server.services.prune import prune
from dstack.server.services.register_runner import register_runner
from dstack.server.services.report_attempt import finish_attempt, report_state
from dstack.server.store.attempts import all_offers, attempt_by_id
from dstack.server.store.runs import run_by_name
from dstack.server.transitions.tags import move_tag
from dstack.server.wiring import Wiring
from dstack.wire.api import PruneRequest, PruneView
from dstack.wire.job import Command, Job
from dstack.wire.runner import Capacity, Finish, Registration, StateReport
from dstack.wire.states import AttemptState, JobState, Trigger

DAY = 86400.0
DONE = JobState.SUCCEEDED


@pytest.fixture
def succeeded(wiring: Wiring, clock: FakeClock) -> str:
    """The name of a run that succeeded 40 days ago."""
    db, now = wiring.db, clock.now()
    db.write(lambda s: s.add(Repo(owner="o", name="n", created_at=now)))
    wiring.git.create("1")
    plan = GroupPlan("g", 1, "a" * 40, Trigger.PUSH, (RunPlan("r", "train", (Job((Command("true"),)),)),))
    db.write(lambda s: create_group(s, plan, now))
    db.write(lambda s: register_runner(s, Registration("one", Capacity(cpu=1, memory=1 << 30)), clock))
    db.write(lambda s: assign_jobs(s, clock))
    (offer,) = db.read(all_offers)

    def unit(session: Session) -> None:
        accept_offer(session, session.get_one(Runner, offer.runner_id), offer.id, wiring.vault, now)
        attempt = attempt_by_id(session, offer.id)
        assert attempt is not None
        report_state(session, attempt, StateReport(AttemptState.RUNNING), now)
        finish_attempt(session, attempt, Finish(AttemptState.SUCCEEDED, exit_code=0), now)

    db.write(unit)
    clock.pass_time(40 * DAY)
    return "r"


def test_a_run_that_is_tagged_while_pruning_begins_stays(wiring: Wiring, clock: FakeClock, succeeded: str) -> None:
    db = wiring.db
    entered, go_on = threading.Event(), threading.Event()

    def hold(session: Session) -> None:
        entered.set()
        assert go_on.wait(10)

    def tag(session: Session) -> None:
        run = run_by_name(session, succeeded)
        assert run is not None
        move_tag(session, run, "latest", by="me", now=clock.now())

    answers: list[PruneView] = []
    pruning = threading.Thread(target=lambda: answers.append(prune(wiring, PruneRequest(days=30, dry_run=False))))
    db.submit(hold)
    assert entered.wait(10)
    tagged = db.submit(tag)
    pruning.start()
    deadline = time.monotonic() + 10
    while db._units.qsize() < 2:  # the pruning stands behind the tag
        assert time.monotonic() < deadline
        time.sleep(0.01)
    go_on.set()
    tagged.result(10)
    pruning.join(10)
    assert [answer.runs for answer in answers] == [0]
    assert db.read(lambda s: run_by_name(s, succeeded)) is not None


def test_deliveries_go_when_nothing_of_them_is_left(wiring: Wiring, clock: FakeClock, succeeded: str) -> None:
    db, now = wiring.db, clock.now()

    def deliver(guid: str, state: DeliveryState, age: float) -> None:
        at = now - age
        row = Delivery(guid=guid, kind="push", body={}, state=state, received_at=at, processed_at=at)
        db.write(lambda s: s.add(row))

    deliver("old", DeliveryState.IGNORED, 40 * DAY)
    deliver("old-unhandled", DeliveryState.RECEIVED, 40 * DAY)
    deliver("young", DeliveryState.PROCESSED, 60)
    deliver("of-a-run", DeliveryState.PROCESSED, 40 * DAY)
    plan = GroupPlan(
        "h", 1, "a" * 40, Trigger.PUSH, (RunPlan("kept", "train", (Job((Command("true"),)),)),), delivery_id=4
    )
    db.write(lambda s: create_group(s, plan, now))
    prune(wiring, PruneRequest(days=0, dry_run=False))
    left = db.read(lambda s: {row.guid for row in s.exec(select(Delivery)).all()})
    assert left == {"old-unhandled", "young", "of-a-run"}
    assert db.read(lambda s: run_by_name(s, succeeded)) is None


@pytest.fixture
def short_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 50 runs: making a thousand of them would cost more than what is tried here."""
    monkeypatch.setattr(pruner, "SLICE", 50)


def make_old_runs(wiring: Wiring, now: float, count: int) -> None:
    """Runs that ended long ago, each with a job, in groups of two."""

    def unit(session: Session) -> None:
        for number in range(0, count, 2):
            pair = tuple(RunPlan(f"old-{number + n}", f"w{n}", (Job((Command("true"),)),)) for n in range(2))
            create_group(session, GroupPlan(f"g{number}", 1, "a" * 40, Trigger.PUSH, pair), now)
        session.exec(update(Run).where(col(Run.name).startswith("old-")).values(state=DONE, finished_at=now - 40 * DAY))

    wiring.db.write(unit)


def run_ids(wiring: Wiring) -> dict[str, int]:
    return wiring.db.read(lambda s: {run.name: run.id or 0 for run in s.exec(select(Run)).all()})


def feed(wiring: Wiring, uses: list[tuple[str, str]]) -> None:
    """Note for each (run, source) that the run was given the source's artifacts."""
    ids = run_ids(wiring)
    rows = [RunInput(run_id=ids[run], position=n, source_id=ids[source]) for n, (run, source) in enumerate(uses)]
    wiring.db.write(lambda s: s.add_all(rows))


@pytest.mark.usefixtures("short_slices")
def test_very_many_runs_go_in_slices(wiring: Wiring, clock: FakeClock, succeeded: str) -> None:
    make_old_runs(wiring, clock.now(), 120)
    feed(wiring, [("old-0", "old-119"), ("old-119", "old-60")])  # the second slice's run holds the first's, once
    writes: list[int] = []
    before = wiring.db.submit

    def counted(unit: Any) -> Any:
        writes.append(1)
        return before(unit)

    told = prune(wiring, PruneRequest(days=30, dry_run=True))
    wiring.db.submit = counted  # type: ignore[method-assign]
    done = prune(wiring, PruneRequest(days=30, dry_run=False))
    assert told.runs == done.runs == 121
    assert len(writes) >= 4  # three slices, the deliveries; a tag has its turn in between
    assert run_ids(wiring) == {}
    assert wiring.db.read(lambda s: len(s.exec(select(Group)).all())) == 0


@pytest.mark.usefixtures("short_slices")
def test_a_run_made_between_two_slices_keeps_what_it_was_given(
    wiring: Wiring, clock: FakeClock, succeeded: str
) -> None:
    """It may get the id of a run that has just gone."""
    make_old_runs(wiring, clock.now(), 120)
    newest = max(run_ids(wiring).values())
    before, units = wiring.db.submit, iter(range(100))

    def in_between(unit: Any) -> Any:
        if next(units) == 1:
            wiring.db.submit = before  # type: ignore[method-assign]
            plan = GroupPlan("new", 1, "a" * 40, Trigger.PUSH, (RunPlan("new", "w", (Job((Command("true"),)),)),))
            wiring.db.write(lambda s: create_group(s, plan, clock.now()))
            feed(wiring, [("new", "old-0")])
        return before(unit)

    wiring.db.submit = in_between  # type: ignore[method-assign]
    prune(wiring, PruneRequest(days=30, dry_run=False))
    left = run_ids(wiring)
    assert set(left) == {"new", "old-0"} and left["new"] <= newest


@pytest.mark.usefixtures("short_slices")
def test_what_a_run_that_stays_was_given_stays_across_slices(wiring: Wiring, clock: FakeClock, succeeded: str) -> None:
    make_old_runs(wiring, clock.now(), 120)
    feed(wiring, [("old-0", "old-119"), ("old-119", "old-60")])
    run = wiring.db.read(lambda s: run_by_name(s, "old-0"))
    assert run is not None
    wiring.db.write(lambda s: move_tag(s, s.get_one(Run, run.id), "latest", by="me", now=clock.now()))
    told = prune(wiring, PruneRequest(days=30, dry_run=True))
    done = prune(wiring, PruneRequest(days=30, dry_run=False))
    assert told.runs == done.runs == 118
    assert set(run_ids(wiring)) == {"old-0", "old-60", "old-119"}
