"""Groups whose runs cannot all be made anew, or cannot all begin: each still comes to its end."""

from __future__ import annotations

import pytest
from server_clock import FakeClock

from dstack.errors import Conflict
from dstack.server.decide.plan import GroupPlan, NeedInput, RunPlan, TagInput
from dstack.server.models import Group, Repo, Run
from dstack.server.services.create_group import NameTaken, create_group
from dstack.server.services.restart_run import restart_run
from dstack.server.services.stop_run import stop_run
from dstack.server.store.jobs import jobs_of_run
from dstack.server.store.runs import needs_of_runs, run_by_name
from dstack.server.wiring import Wiring
from dstack.wire.job import Command, Job
from dstack.wire.states import JobState, Reason, Trigger

JOB = Job((Command("true"),))


class Scene:
    def __init__(self, wiring: Wiring, clock: FakeClock) -> None:
        self.wiring, self.clock = wiring, clock
        wiring.db.write(lambda s: s.add(Repo(owner="o", name="n", created_at=clock.now())))

    def push(self, *plans: RunPlan) -> list[Run]:
        plan = GroupPlan(self.clock.new_name(), 1, "a" * 40, Trigger.PUSH, plans)
        return self.wiring.db.write(lambda s: create_group(s, plan, self.clock.now()))

    def plan(self, workflow: str, *needs: str, **more: object) -> RunPlan:
        inputs = tuple(NeedInput(name) for name in needs)
        return RunPlan(
            self.clock.new_name(), workflow, (JOB,), key=f"push:{workflow}", **{"inputs": inputs} | more,  # type: ignore[arg-type]
        )  # fmt: skip

    def stop(self, run: Run) -> None:
        def unit(session):  # type: ignore[no-untyped-def]
            stop_run(session, run_by_name(session, run.name), group=False, by="me", now=self.clock.now())

        self.wiring.db.write(unit)

    def restart(self, run: Run) -> Run:
        return self.wiring.db.write(
            lambda s: restart_run(s, run_by_name(s, run.name), by="me", clock=self.clock)  # type: ignore[arg-type]
        )

    def now(self, run: Run) -> tuple[JobState, Reason | None, str]:
        found = self.wiring.db.read(lambda s: run_by_name(s, run.name))
        assert found is not None
        return found.state, found.reason, found.message

    def waits_for(self, run: Run) -> str:
        return self.wiring.db.read(lambda s: jobs_of_run(s, run.id or 0))[0].waits_for


@pytest.fixture
def scene(wiring: Wiring, clock: FakeClock) -> Scene:
    return Scene(wiring, clock)


def test_what_needs_a_run_that_failed_at_its_making_is_skipped(scene: Scene) -> None:
    no_tag = (TagInput("raw", "latest"),)
    first, second, third = scene.push(
        scene.plan("prepare", inputs=no_tag), scene.plan("train", "prepare"), scene.plan("evaluate", "train")
    )
    assert scene.now(first)[:2] == (JobState.FAILED, Reason.NO_SUCH_TAG)
    assert scene.now(second) == (JobState.SKIPPED, Reason.DEPENDENCY_FAILED, f"prepare ({first.name}) failed")
    assert scene.now(third)[:2] == (JobState.SKIPPED, Reason.DEPENDENCY_FAILED)


def test_a_new_run_may_need_one_that_an_earlier_push_made(scene: Scene) -> None:
    (prepare,) = scene.push(scene.plan("prepare"))
    (train,) = scene.push(scene.plan("prepare"), scene.plan("train", "prepare"))
    assert scene.wiring.db.read(lambda s: needs_of_runs(s, [train.id or 0])) == {train.id: [prepare.id]}
    assert scene.waits_for(train) == f"waits for prepare ({prepare.name})"


def test_a_new_run_that_needs_one_that_was_stopped_before_is_skipped(scene: Scene) -> None:
    (prepare,) = scene.push(scene.plan("prepare"))
    scene.stop(prepare)
    (train,) = scene.push(scene.plan("prepare"), scene.plan("train", "prepare"))
    assert scene.now(train) == (JobState.SKIPPED, Reason.DEPENDENCY_FAILED, f"prepare ({prepare.name}) was stopped")


def test_a_run_whose_inputs_were_never_found_is_not_restarted_without_them(scene: Scene) -> None:
    (run,) = scene.push(scene.plan("train", inputs=(TagInput("raw", "latest"),)))
    with pytest.raises(Conflict, match="never had its inputs"):
        scene.restart(run)


def test_a_restarted_run_waits_its_turn_in_its_concurrency_group(scene: Scene) -> None:
    (old,) = scene.push(scene.plan("deploy", concurrency_group="prod"))
    scene.stop(old)
    (open_run,) = scene.push(scene.plan("other", concurrency_group="prod"))
    again = scene.restart(old)
    assert scene.now(again)[0] is JobState.WAITING
    assert scene.waits_for(again) == f"waits for other ({open_run.name}) of the same concurrency group"
    scene.stop(open_run)
    assert scene.now(again)[0] is JobState.QUEUED


def test_the_runs_of_one_push_do_not_supersede_one_another(scene: Scene) -> None:
    prepare, train = scene.push(
        scene.plan("prepare", concurrency_group="main", cancel_running=True),
        scene.plan("train", "prepare", concurrency_group="main", cancel_running=True),
    )
    assert scene.now(prepare)[0] is JobState.QUEUED
    assert scene.now(train)[0] is JobState.WAITING


def test_a_name_drawn_twice_is_drawn_again(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    (run,) = scene.push(scene.plan("train"))
    scene.stop(run)
    taken = scene.wiring.db.read(lambda s: s.get_one(Group, run.group_id)).name
    with pytest.raises(NameTaken):
        plan = GroupPlan(taken, 1, "a" * 40, Trigger.PUSH, (scene.plan("other"),))
        scene.wiring.db.write(lambda s: create_group(s, plan, scene.clock.now()))
    draws = iter([taken, "fresh-group-1", run.name, "fresh-run-1"])
    monkeypatch.setattr(scene.clock, "new_name", lambda: next(draws))
    again = scene.restart(run)
    assert again.name == "fresh-run-1"
