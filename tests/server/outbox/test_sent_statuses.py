"""Commit statuses as GitHub has them."""

from __future__ import annotations

import pytest
from outbox_scene import REPO, Scene
from sqlmodel import Session

from dstack.server.models import ForgeReport, NotNeeded
from dstack.server.services.send_statuses import send
from dstack.server.store.outbox import STATUS, mark_outdated
from dstack.server.store.reports import note_sent
from dstack.server.store.run_facts import facts_of_commit
from dstack.server.store.runs import run_by_name
from dstack.server.transitions.tags import move_tag
from dstack.wire.states import Trigger, Verdict


@pytest.fixture(autouse=True)
def statuses_alone(scene: Scene) -> None:
    scene.use({STATUS: send})


def test_a_push_is_pending_then_a_success_with_what_came_out(scene: Scene) -> None:
    run = scene.run()
    scene.idle()
    assert scene.statuses() == {"dstack/train": ("pending", "queued")}
    scene.begin(run)
    scene.idle()
    assert scene.statuses()["dstack/train"] == ("pending", "runner-1, since 08:00 UTC")
    scene.clock.pass_time(191)
    scene.end(run)
    scene.idle()
    status = scene.github.statuses(REPO, scene.sha)["dstack/train"]
    assert (status.state, status.description) == ("success", "3m 12s · accuracy 0.934")
    assert status.target_url == f"http://dstack.example/runs/{run}"
    assert scene.marks(later=True) == []


def test_what_did_not_change_is_not_written_again(scene: Scene) -> None:
    run = scene.run()
    scene.begin(run)
    scene.idle()
    before = len(scene.github.writes())
    for _ in range(20):
        scene.mark(STATUS, f"1:{scene.sha}")
        scene.metrics(run, _, 0.5)
        scene.pass_time(30)
    assert len(scene.github.writes()) == before == 1


def test_a_comment_with_other_variables_turns_nothing_green(scene: Scene) -> None:
    clean = scene.run()
    scene.begin(clean)
    scene.fail(clean)
    tuned = scene.run(trigger=Trigger.COMMENT, is_clean=False)
    scene.begin(tuned)
    scene.end(tuned)
    nightly = scene.run(trigger=Trigger.SCHEDULE, is_clean=False)
    scene.begin(nightly)
    scene.end(nightly)
    scene.idle()
    assert {context: state for context, (state, _) in scene.statuses().items()} == {
        "dstack/train": "failure",
        "dstack/train (manual)": "success",
        "dstack/train (schedule)": "success",
    }


def test_tags_are_told_where_they_are_and_where_they_were(scene: Scene) -> None:
    old = scene.run()
    scene.begin(old)
    scene.end(old)
    other_sha = scene.github.commit(REPO, "main", {"train.py": "print(2)\n"}, "Better")
    new = scene.run(sha=other_sha)
    scene.begin(new)
    scene.end(new)

    def tag(session: Session, name: str) -> None:
        run = run_by_name(session, name)
        assert run is not None
        move_tag(session, run, "best", by="ada", now=scene.clock.now())

    scene.wiring.db.write(lambda s: tag(s, old))
    scene.idle()
    assert scene.statuses()["dstack/tag/train:best"] == ("success", f"on {old}")
    scene.wiring.db.write(lambda s: tag(s, new))
    scene.idle()
    assert scene.statuses()["dstack/tag/train:best"] == ("success", f"moved to {other_sha[:7]}")
    assert scene.statuses(other_sha)["dstack/tag/train:best"] == ("success", f"on {new}")


def test_of_many_runs_of_a_commit_the_newest_of_each_kind_are_told(scene: Scene) -> None:
    for _ in range(30):
        nightly = scene.run(trigger=Trigger.SCHEDULE, is_clean=False)
        scene.begin(nightly)
        scene.end(nightly)
    last = scene.run(trigger=Trigger.SCHEDULE, is_clean=False)
    scene.begin(last)
    scene.fail(last)
    commit = scene.wiring.db.read(lambda s: facts_of_commit(s, 1, scene.sha))
    assert [facts.run.name for facts in commit.runs] == [nightly, last]
    scene.idle()
    assert {c: state for c, (state, _) in scene.statuses().items()} == {"dstack/train (schedule)": "failure"}


def test_a_workflow_that_is_not_needed_does_not_hang(scene: Scene) -> None:
    def unit(session: Session) -> None:
        now = scene.clock.now()
        session.add(NotNeeded(repo_id=1, sha=scene.sha, workflow="lint", why="no path matched", created_at=now))
        mark_outdated(session, STATUS, f"1:{scene.sha}", now)

    scene.wiring.db.write(unit)
    scene.idle()
    assert scene.statuses() == {"dstack/lint": ("success", "not needed: no path matched")}


def test_a_verdict_comes_without_a_word_of_judging_before_it(scene: Scene) -> None:
    run = scene.run(gate="accuracy >= 0.9")
    scene.begin(run)
    scene.idle()
    scene.end(run)
    scene.lane.step()
    scene.change(run, verdict=Verdict.FAILED, verdict_why="accuracy 0.934 < 0.95")
    scene.mark(STATUS, f"1:{scene.sha}")
    scene.idle()
    said = [status.description for status in scene.github.all_statuses(REPO, scene.sha)]
    assert said == ["runner-1, since 08:00 UTC", "gate failed: accuracy 0.934 < 0.95 · accuracy 0.934 · 1s"]


def test_a_gate_nobody_asks_is_pending_after_a_moment(scene: Scene) -> None:
    run = scene.run(gate="accuracy >= 0.9")
    scene.begin(run)
    scene.idle()
    scene.end(run)
    scene.pass_time(5)
    assert scene.statuses()["dstack/train"] == ("pending", "1s · accuracy 0.934 · judging")


def test_what_a_run_waits_for_is_told_by_and_by(scene: Scene) -> None:
    prepare, train = scene.run("prepare"), scene.run("train")
    scene.idle()

    def explain(session: Session) -> None:
        for name in (prepare, train):
            job = scene._job(session, name)
            job.waits_for = "needs 4 GPUs; the largest runner has 1"
            session.add(job)

    scene.wiring.db.write(explain)
    scene.pass_time(50)
    assert scene.statuses()["dstack/train"] == ("pending", "queued")
    scene.pass_time(15)
    assert scene.statuses()["dstack/train"] == ("pending", "needs 4 GPUs; the largest runner has 1")
    scene.pass_time(600, every_s=10)
    assert len(scene.github.writes()) == 4


@pytest.mark.parametrize(("writes", "states"), [(899, ["pending", "success"]), (990, ["success"])])
def test_near_the_limit_of_a_commit_only_ends_are_written(scene: Scene, writes: int, states: list[str]) -> None:
    target = f"{scene.sha}:dstack/train"

    def many(session: Session) -> None:
        note_sent(session, 1, STATUS, target, "pending:old", scene.clock.now())
        row = session.get(ForgeReport, (1, STATUS, target))
        assert row is not None
        row.writes = writes

    scene.wiring.db.write(many)
    run = scene.run()
    scene.idle()
    scene.begin(run)
    scene.idle()
    scene.end(run)
    scene.idle()
    assert [status.state for status in scene.github.all_statuses(REPO, scene.sha)] == states


def test_a_text_that_is_refused_is_sent_once_more_shorter(scene: Scene) -> None:
    run = scene.run()
    scene.begin(run)
    scene.fail(run, "ä" * 300)
    scene.github.faults.error(422, "statuses", method="POST", count=1)
    scene.idle()
    state, text = scene.statuses()["dstack/train"]
    assert state == "failure" and len(text) <= 100 and text.isascii()
    assert [call.status for call in scene.github.writes("statuses")] == [422, 201]
    scene.mark(STATUS, f"1:{scene.sha}")
    scene.idle()
    assert len(scene.github.writes("statuses")) == 2
