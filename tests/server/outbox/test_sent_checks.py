"""Check runs as GitHub has them."""

from __future__ import annotations

from pathlib import Path

import pytest
from outbox_scene import REPO, Scene, play
from server_clock import FakeClock
from sqlmodel import Session

from dstack.server.models import NotNeeded
from dstack.server.services.send_checks import send
from dstack.server.store.outbox import CHECK, mark_outdated
from dstack.server.store.reports import parked, unpark
from dstack.wire.states import Reason, Verdict

LOG = b'Traceback (most recent call last):\n  File "train.py", line 1, in <module>\n    print(x)\nNameError: x\n'


@pytest.fixture(autouse=True)
def checks_alone(scene: Scene) -> None:
    scene.use({CHECK: send})


def test_one_check_goes_from_queued_to_its_end(scene: Scene) -> None:
    run = scene.run()
    scene.idle()
    (check,) = scene.github.checks(REPO, scene.sha)
    assert (check.name, check.status, check.external_id) == ("dstack / train", "queued", f"run:{run}")
    scene.begin(run)
    scene.idle()
    assert (check.status, check.actions) == ("in_progress", [])
    scene.clock.pass_time(191)
    scene.end(run)
    scene.idle()
    assert (check.status, check.conclusion) == ("completed", "success")
    assert check.output["title"] == "3m 12s · accuracy 0.934"
    assert "| accuracy | 0.934 |" in check.output["summary"]
    assert [action["identifier"] for action in check.actions] == ["tag-latest"]
    assert check.details_url == f"http://dstack.example/runs/{run}"
    assert len(scene.github.checks(REPO)) == 1


def test_a_failure_marks_its_line_once(scene: Scene) -> None:
    run = scene.run()
    scene.begin(run)
    scene.wiring.logs.append(scene.attempt_of(run), 0, LOG)
    scene.fail(run)
    scene.idle()
    (check,) = scene.github.checks(REPO)
    assert check.conclusion == "failure"
    assert [(a["path"], a["start_line"], a["title"]) for a in check.annotations] == [("train.py", 1, "NameError: x")]
    assert "print(x)" in check.output["text"] and "train.py: exit code 1" in check.output["summary"]
    scene.change(run, message="said differently")
    scene.mark(CHECK, f"1:{scene.row(run).id}")
    scene.idle()
    assert "said differently" in check.output["summary"] and len(check.annotations) == 1


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_an_answer_lost_doubles_neither_check_nor_remark(scene: Scene, method: str) -> None:
    run = scene.run()
    if method == "PATCH":
        scene.idle()
    scene.begin(run)
    scene.wiring.logs.append(scene.attempt_of(run), 0, LOG)
    scene.fail(run)
    scene.github.faults.lose_answer("check-runs", method=method, count=1)
    scene.idle()
    (check,) = scene.github.checks(REPO)
    assert (check.conclusion, len(check.annotations)) == ("failure", 1)


@pytest.mark.parametrize("how", ["drop", "error"])
def test_a_check_that_never_arrived_is_made_with_its_remarks(scene: Scene, how: str) -> None:
    run = scene.run()
    scene.begin(run)
    scene.wiring.logs.append(scene.attempt_of(run), 0, LOG)
    scene.fail(run)
    getattr(scene.github.faults, how)(path="check-runs", method="POST", count=2)
    scene.idle()
    (check,) = scene.github.checks(REPO)
    assert (check.conclusion, len(check.annotations)) == ("failure", 1)


def test_progress_is_told_by_its_schedule_and_not_with_every_metric(scene: Scene) -> None:
    run = scene.run()
    scene.begin(run)
    scene.idle()
    before = len(scene.github.writes())
    for step in range(120):
        scene.metrics(run, step, step / 200)
        scene.pass_time(10, every_s=10)
    assert len(scene.github.writes()) - before == 3  # after 1, 5, 10 minutes
    (check,) = scene.github.checks(REPO)
    assert "### Metrics so far" in check.output["summary"] and "xychart-beta" in check.output["text"]


def test_a_training_of_weeks_never_goes_stale(scene: Scene) -> None:
    run = scene.run()
    scene.begin(run)
    scene.idle()
    (check,) = scene.github.checks(REPO)
    before = check.updates
    scene.pass_time(16 * 86_400, every_s=4 * 3600)
    assert 16 <= check.updates - before <= 24
    scene.end(run)
    scene.idle()
    assert (check.status, check.conclusion) == ("completed", "success")


def test_a_held_fork_can_be_approved_by_a_button(scene: Scene) -> None:
    run = scene.runs({"train": {}}, needs_approval=True, trusted=False, pull_request=7)["train"]
    scene.idle()
    (check,) = scene.github.checks(REPO)
    assert check.conclusion == "action_required"
    assert [action["identifier"] for action in check.actions] == ["approve"]
    scene.change(run, approved_by="ada")
    scene.mark(CHECK, f"1:{scene.row(run).id}")
    scene.idle()
    assert (check.status, check.conclusion, check.actions) == ("queued", None, [])


def test_a_gate_decides_the_conclusion(scene: Scene) -> None:
    run = scene.run(gate="accuracy >= 0.95")
    scene.begin(run)
    scene.end(run)
    scene.idle()
    (check,) = scene.github.checks(REPO)
    assert check.status == "in_progress"
    scene.change(run, verdict=Verdict.FAILED, verdict_why="accuracy 0.934 < 0.95")
    scene.mark(CHECK, f"1:{scene.row(run).id}")
    scene.idle()
    assert check.conclusion == "failure" and "accuracy 0.934 \\< 0.95" in check.output["summary"]


def tell_of_problems(scene: Scene) -> None:
    why = "config error: .dstack/workflows.yaml:3:5: unknown key"

    def unit(session: Session) -> None:
        now = scene.clock.now()
        row = NotNeeded(repo_id=1, sha=scene.sha, workflow="config", why=why, is_problem=True, created_at=now)
        session.add(row)
        mark_outdated(session, CHECK, f"1:config:{scene.sha}", now)

    scene.wiring.db.write(unit)
    scene.idle()


def test_files_with_problems_are_marked_where_they_are(scene: Scene) -> None:
    tell_of_problems(scene)
    (check,) = scene.github.checks(REPO)
    assert (check.name, check.conclusion) == ("dstack / config", "failure")
    assert [(a["path"], a["start_line"]) for a in check.annotations] == [(".dstack/workflows.yaml", 3)]


def test_files_with_problems_are_marked_once_the_app_may(scene: Scene) -> None:
    permissions = dict(scene.github.installations[scene.installation].permissions)
    scene.github.grant(scene.installation, {**permissions, "checks": "read"})
    tell_of_problems(scene)
    assert [row.target for row in scene.wiring.db.read(parked)] == [f"config:{scene.sha}"]
    scene.github.grant(scene.installation, permissions)
    scene.github.expire_tokens()
    scene.wiring.db.write(lambda s: unpark(s, [1], scene.clock.now()))
    scene.idle()
    assert [check.name for check in scene.github.checks(REPO)] == ["dstack / config"]
    assert scene.wiring.db.read(parked) == [] and scene.marks(later=True) == []


def test_a_text_that_is_refused_is_sent_once_more_shorter(scene: Scene) -> None:
    run = scene.run()
    scene.begin(run)
    scene.wiring.logs.append(scene.attempt_of(run), 0, b"line\n" * 20_000)
    scene.fail(run)
    scene.github.faults.error(422, "check-runs", method="POST", count=1)
    scene.idle()
    (check,) = scene.github.checks(REPO)
    assert check.conclusion == "failure" and not check.output["text"]


def test_one_check_a_commit_or_none_where_the_setting_says_so(tmp_path: Path) -> None:
    with play(tmp_path / "push", FakeClock(), github_checks="push") as scene:
        scene.use({CHECK: send})
        runs = scene.runs({"train": {}, "lint": {}})
        scene.idle()
        for run in runs.values():
            scene.begin(run)
        scene.end(runs["lint"])
        scene.idle()
        (check,) = scene.github.checks(REPO)
        assert (check.name, check.status) == ("dstack", "in_progress")
        scene.end(runs["train"], state="failed", reason=Reason.EXIT_CODE, exit_code=1)
        scene.idle()
        assert (check.conclusion, check.output["title"]) == ("failure", "1 failure, 1 success")
    with play(tmp_path / "off", FakeClock(), github_checks="off") as scene:
        scene.use({CHECK: send})
        scene.run()
        scene.idle()
        assert scene.github.checks(REPO) == [] and scene.marks(later=True) == []
