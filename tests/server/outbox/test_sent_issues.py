"""One issue for a workflow that fails on the default branch: opened, kept, closed when it works again."""

from __future__ import annotations

from pathlib import Path

from outbox_scene import REPO, Scene, play
from server_clock import FakeClock

from dstack.wire.states import Trigger, Verdict


def failed(scene: Scene, **more: object) -> str:
    run = scene.run(**more)  # type: ignore[arg-type]
    scene.begin(run)
    log = b"Epoch 1\nTraceback: no such file\n"
    scene.wiring.logs.append(scene.attempt_of(run), 0, log)
    scene.fail(run)
    scene.idle()
    return run


def succeeded(scene: Scene, **more: object) -> str:
    run = scene.run(**more)  # type: ignore[arg-type]
    scene.begin(run)
    scene.end(run)
    scene.idle()
    return run


def issues(scene: Scene) -> list[tuple[str, str]]:
    """State and title; pull requests are none."""
    return [(issue.state, issue.title) for issue in scene.github.issues(REPO) if issue.pull is None]


def body(scene: Scene) -> str:
    return next(issue.body or "" for issue in scene.github.issues(REPO) if issue.pull is None)


def test_opened_kept_and_closed(scene: Scene) -> None:
    succeeded(scene)
    assert issues(scene) == []
    first = failed(scene)
    assert issues(scene) == [("open", "dstack: train fails on main")]
    assert first in body(scene) and "Traceback: no such file" in body(scene)
    second = failed(scene)
    assert len(issues(scene)) == 1
    assert f"since [{first}]" in body(scene) and f"Newest: [{second}]" in body(scene)
    good = succeeded(scene)
    assert issues(scene) == [("closed", "dstack: train fails on main")]
    assert f"works again on `main`: [{good}]" in body(scene)
    before = len(scene.github.writes("/issues"))
    succeeded(scene)
    assert len(scene.github.writes("/issues")) == before
    failed(scene)
    assert [state for state, _ in issues(scene)] in (["open", "closed"], ["closed", "open"])


def test_a_schedule_counts_and_each_workflow_has_its_own(scene: Scene) -> None:
    failed(scene, trigger=Trigger.SCHEDULE)
    failed(scene, workflow="evaluate")
    assert sorted(title for _, title in issues(scene)) == [
        "dstack: evaluate fails on main",
        "dstack: train fails on main",
    ]


def test_a_lost_answer_makes_no_second_issue(scene: Scene) -> None:
    scene.github.faults.lose_answer("/issues", method="POST")
    failed(scene)
    assert len(issues(scene)) == 1
    succeeded(scene)
    assert [state for state, _ in issues(scene)] == ["closed"]


def test_a_lost_answer_and_then_a_recovery_leave_none_open(scene: Scene) -> None:
    scene.github.faults.lose_answer("/issues", method="POST")
    run = scene.run()
    scene.begin(run)
    scene.fail(run)
    while not issues(scene):
        scene.clock.pass_time(scene.lane.step() or 0.1)
    run = scene.run()
    scene.begin(run)
    scene.end(run)
    scene.idle()
    assert [state for state, _ in issues(scene)] == ["closed"]


def test_a_failed_gate_is_a_failure(scene: Scene) -> None:
    run = scene.run(gate="accuracy >= 1")
    scene.begin(run)
    scene.end(run)
    scene.change(run, verdict=Verdict.FAILED, verdict_why="accuracy 0.934 >= 1")
    scene.idle()
    assert issues(scene) == [("open", "dstack: train fails on main")]


def test_runs_by_hand_of_branches_and_of_pull_requests_open_none(scene: Scene) -> None:
    failed(scene, trigger=Trigger.MANUAL)
    run = scene.runs({"train": {}}, pull_request=7, trigger=Trigger.PULL_REQUEST)["train"]
    scene.begin(run)
    scene.fail(run)
    run = scene.run()
    scene.change(run, branch="topic")
    scene.begin(run)
    scene.fail(run)
    scene.idle()
    assert issues(scene) == []


def test_a_setting_turns_them_off(tmp_path: Path, clock: FakeClock) -> None:
    with play(tmp_path, clock, github_issues=False) as scene:
        failed(scene)
        assert issues(scene) == []
