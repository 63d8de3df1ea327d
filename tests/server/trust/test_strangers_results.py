"""What a stranger's code made stays among strangers, whoever asks for it by whatever way."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fork_scene import Forks
from sqlalchemy import update
from sqlmodel import col

from dstack.errors import Invalid
from dstack.server.decide.plan import GroupPlan, RunPlan
from dstack.server.models import Run
from dstack.server.services.create_group import create_group
from dstack.server.store.runs import run_by_name
from dstack.server.transitions.tags import move_tag
from dstack.wire.job import Command, Job
from dstack.wire.states import Trigger

JOB = Job((Command("true"),))


def distrust(scene: Forks, name: str) -> None:
    scene.api.wiring.db.write(lambda s: s.exec(update(Run).where(col(Run.name) == name).values(trusted=False)))


def test_a_plan_that_forgot_makes_no_tag(scene: Forks) -> None:
    """Plans give no tag to strangers; should one, the run gets none."""
    repo, clock = scene.repo(), scene.api.clock
    plan = GroupPlan(clock.new_name(), repo.id or 0, "c" * 40, Trigger.PULL_REQUEST, (), trusted=False, pull_request=99)
    plan = replace(plan, runs=(RunPlan(clock.new_name(), "train", (JOB,), auto_tag="latest"),))
    (run,) = scene.api.wiring.db.write(lambda s: create_group(s, plan, clock.now()))
    assert run.auto_tag is None
    scene.api.ok("POST", f"/api/v1/runs/{run.name}/stop", json={})


def test_no_tag_stands_on_what_a_stranger_made(scene: Forks) -> None:
    held = scene.api.attempt()
    held.end()
    distrust(scene, held.run)
    with pytest.raises(Invalid, match="ran the code of a fork"):
        scene.api.wiring.db.write(
            lambda s: move_tag(s, s.merge(run_by_name(s, held.run)), "best", by="me", now=scene.api.clock.now())
        )


def test_a_trusted_run_is_given_nothing_of_a_stranger(scene: Forks) -> None:
    runner = scene.api.runner()
    job = runner.only(JOB)
    names = scene.api.runs({"prepare": job, "train": job}, needs={"train": ("prepare",)})
    first = runner.take(names["prepare"])
    first.save("data", {"data/rows": b"poisoned"})
    first.end()
    distrust(scene, names["prepare"])
    offer = runner.offer(names["train"])
    assert runner.call("POST", f"/api/v1/attempts/{offer['attempt']}/accept").status_code == 409
    run = scene.api.get_run(names["train"])
    assert (run["state"], run["reason"]) == ("failed", "config")
    assert run["jobs"][0]["message"] == f"its input prepare ({names['prepare']}) ran the code of a fork"
