"""The one comment of a pull request: made once, edited ever after, found again when an answer was lost."""

from __future__ import annotations

import json
import re

import pytest
from outbox_scene import REPO, Scene
from sqlmodel import Session

from dstack.server.models import PullRequest
from dstack.server.report.comment import MARKER
from dstack.server.services.note_not_needed import note_problem
from dstack.server.store.github import pull_by_number
from dstack.server.store.outbox import COMMENT, mark_outdated
from dstack.wire.states import Trigger, Verdict


class Pull:
    """An open pull request of the scene's repository, known to the server."""

    def __init__(self, scene: Scene, *, is_fork: bool = False) -> None:
        self.scene = scene
        github = scene.github
        self.head = github.commit(REPO, "faster", {"train.py": "print(2)\n"}, "Faster")
        self.number = github.open_pull(REPO, "faster", "main", title="Faster")
        now = scene.clock.now()
        row = PullRequest(
            repo_id=1, number=self.number, author="ann", head_sha=self.head, head_branch="faster", base_branch="main",
            is_fork=is_fork, head_at=now, updated_at=now,
        )  # fmt: skip
        scene.wiring.db.write(lambda s: s.add(row))

    def run(self, workflow: str = "train", *, trigger: Trigger = Trigger.PULL_REQUEST, **more: object) -> str:
        group = {name: more.pop(name) for name in ("needs_approval", "trusted") if name in more}
        made = self.scene.runs(
            {workflow: more}, self.head, trigger=trigger, pull_request=self.number, base_branch="main", **group
        )
        return made[workflow]

    def change(self, **columns: object) -> None:
        """As the inbox notes it: the row, and the comment out of date."""

        def unit(session: Session) -> None:
            row = pull_by_number(session, 1, self.number)
            assert row is not None
            for name, value in columns.items():
                setattr(row, name, value)
            session.add(row)
            mark_outdated(session, COMMENT, f"1:{self.number}", self.scene.clock.now())

        self.scene.wiring.db.write(unit)

    @property
    def comments(self) -> list[str]:
        return [comment.body for comment in self.scene.github.comments(REPO, self.number)]

    @property
    def writes(self) -> int:
        return len([c for c in self.scene.github.writes(done=True) if "/comments" in c.path])


@pytest.fixture
def pull(scene: Scene) -> Pull:
    return Pull(scene)


def test_one_comment_follows_the_runs(scene: Scene, pull: Pull) -> None:
    scene.idle()
    assert pull.comments == []  # nothing to tell yet
    run = pull.run()
    scene.idle()
    assert len(pull.comments) == 1 and "⏳ queued" in pull.comments[0]
    scene.begin(run)
    scene.idle()
    assert "🔄 running | since 08:" in pull.comments[0]
    scene.clock.pass_time(192)
    scene.end(run)
    scene.idle()
    assert len(pull.comments) == 1
    assert re.search(r"\*\*train\*\* \| ✅ succeeded \| 3m 1\ds \| accuracy 0.934 \|", pull.comments[0])
    found = re.search(r"<!-- dstack:runs (.*) -->", pull.comments[0])
    assert found is not None and json.loads(found[1])["runs"][0]["name"] == run
    assert scene.marks(later=True) == []


def test_against_its_base_with_a_chart_and_the_report(scene: Scene, pull: Pull) -> None:
    base = scene.run()
    scene.begin(base)
    for step in range(5):
        scene.metrics(base, step, 0.5 + step / 20)
    scene.end(base, metrics={"accuracy": 0.7})
    run = pull.run()
    scene.begin(run)
    for step in range(5):
        scene.metrics(run, step, 0.6 + step / 20)
    scene.end(run, metrics={"accuracy": 0.8}, report="# Good\n\n![loss](loss.png) by @octocat\n\n```\nopen")
    scene.change(run, base_run_id=scene.row(base).id, verdict=Verdict.PASSED, verdict_why="accuracy 0.8 >= base 0.7")
    pull.change()
    scene.idle()
    text = pull.comments[0]
    assert f"+0.1 ▲ better (0.7 in {base})" in text
    assert "line [0.6, 0.65, 0.7, 0.75, 0.8]\n    line [0.5, 0.55, 0.6, 0.65, 0.7]" in text
    assert f"[image: loss](http://dstack.example/runs/{run}) by @\u200boctocat" in text
    assert "gate passed: accuracy 0.8 >= base" in text


def test_the_runs_that_a_push_made_are_shown_too(scene: Scene, pull: Pull) -> None:
    run = scene.run(sha=pull.head)
    scene.change(run, branch="faster")
    pull.change()
    scene.idle()
    assert run in pull.comments[0]


def test_progress_is_told_by_the_schedule_and_nothing_twice(scene: Scene, pull: Pull) -> None:
    run = pull.run()
    scene.begin(run)
    scene.idle()
    before = pull.writes
    for offset in range(2 * 60):  # an hour, reporting every 30 s
        scene.metrics(run, offset, offset / 130)
        if offset % 7 == 0:
            pull.change()  # marked again and again without any need
        scene.pass_time(30, every_s=15)
    assert pull.writes - before == 9  # 1, 2, 5, 10, 20 … 60 minutes
    assert re.search(r"accuracy 0\.9", pull.comments[0])


def test_equal_text_is_not_written_again(scene: Scene, pull: Pull) -> None:
    run = pull.run()
    scene.begin(run)
    scene.end(run)
    scene.idle()
    before = pull.writes
    for _ in range(3):
        pull.change()
        scene.idle()
    assert pull.writes == before


def test_a_lost_answer_makes_no_second_comment(scene: Scene, pull: Pull) -> None:
    scene.github.faults.lose_answer("/comments", method="POST")
    pull.run()
    scene.idle()
    assert len(pull.comments) == 1 and pull.comments[0].startswith(MARKER)


def test_a_deleted_comment_is_made_anew_once(scene: Scene, pull: Pull) -> None:
    run = pull.run()
    scene.idle()
    scene.github.delete_comment(scene.github.comments(REPO, pull.number)[0].id)
    scene.begin(run)
    scene.idle()
    assert len(pull.comments) == 1 and "running" in pull.comments[0]
    scene.github.delete_comment(scene.github.comments(REPO, pull.number)[0].id)
    scene.clock.pass_time(5)
    scene.end(run)
    scene.idle()
    assert pull.comments == []  # they do not want it
    before = pull.writes
    scene.idle()
    pull.run()
    scene.idle()
    assert pull.comments == [] and pull.writes == before


def test_a_deleted_comment_whose_successor_got_no_answer_is_not_doubled(scene: Scene, pull: Pull) -> None:
    run = pull.run()
    scene.idle()
    scene.github.delete_comment(scene.github.comments(REPO, pull.number)[0].id)
    scene.github.faults.lose_answer("/comments", method="POST")
    scene.begin(run)
    scene.idle()
    assert len(pull.comments) == 1 and "running" in pull.comments[0]


def test_a_closed_pull_request_gets_its_end_and_no_first_comment(scene: Scene, pull: Pull) -> None:
    run = pull.run()
    scene.begin(run)
    scene.idle()
    pull.change(is_open=False)
    scene.end(run)
    scene.idle()
    assert "succeeded" in pull.comments[0]


def test_a_pull_request_closed_before_its_first_comment_gets_none(scene: Scene, pull: Pull) -> None:
    pull.change(is_open=False)
    pull.run()
    scene.idle()
    assert pull.comments == []


def test_a_new_head_folds_the_runs_before_it(scene: Scene, pull: Pull) -> None:
    old = pull.run()
    scene.begin(old)
    scene.end(old)
    scene.idle()
    pull.head = scene.github.push_pull(REPO, pull.number, {"train.py": "print(3)\n"})
    pull.change(head_sha=pull.head)
    new = pull.run()
    scene.idle()
    head, earlier = pull.comments[0].split("<summary>Earlier commits</summary>")
    assert new in head and old not in head and old in earlier


def test_a_held_run_of_a_fork_says_how_to_approve(scene: Scene, pull: Pull) -> None:
    pull.run(needs_approval=True, trusted=False)
    scene.idle()
    assert f"`/dstack approve {pull.head[:7]}`" in pull.comments[0]
    assert "### dstack: waits for approval" in pull.comments[0]


def test_a_restart_takes_the_place_of_what_it_repeats(scene: Scene, pull: Pull) -> None:
    first = pull.run()
    scene.begin(first)
    scene.fail(first)
    second = pull.run()
    other = pull.run(trigger=Trigger.COMMENT, is_clean=False, variables={"lr": "3e-4"})
    scene.idle()
    text = pull.comments[0]
    assert first not in text and second in text and other in text
    assert "(comment lr=3e-4)" in text


def test_a_text_that_is_refused_is_sent_once_more_shorter(scene: Scene, pull: Pull) -> None:
    run = pull.run()
    scene.idle()
    scene.begin(run)
    scene.end(run, report="word\n" * 8_000)
    scene.github.faults._answer("too long", 422, "body is too long", {}, "/comments/", method="PATCH")
    scene.idle()
    assert "succeeded" in pull.comments[0] and len(pull.comments[0].encode()) < 20_000


def test_a_verdict_due_any_moment_is_waited_for(scene: Scene, pull: Pull) -> None:
    run = pull.run(gate="accuracy >= 0.9")
    scene.idle()
    scene.begin(run)
    scene.end(run)
    scene.lane.step()
    assert "succeeded" not in pull.comments[0] and "gate" not in pull.comments[0]
    scene.change(run, verdict=Verdict.PASSED, verdict_why="accuracy 0.934 >= 0.9")
    pull.change()
    scene.idle()
    assert "gate passed: accuracy 0.934 >= 0.9" in pull.comments[0]


def test_few_writes_for_an_hour_of_three_workflows(scene: Scene, pull: Pull) -> None:
    group = {"pull_request": pull.number, "base_branch": "main"}
    runs = scene.runs({"a": {}, "b": {}, "c": {}}, pull.head, trigger=Trigger.PULL_REQUEST, **group)
    scene.idle()
    for run in runs.values():
        scene.begin(run)
        scene.pass_time(20)
    for offset in range(60):
        for run in runs.values():
            scene.metrics(run, offset, offset / 70)
        scene.pass_time(60, every_s=30)
    for run in runs.values():
        scene.end(run)
        scene.pass_time(20)
    scene.idle()
    assert pull.writes <= 20, pull.writes
    assert pull.comments[0].count("✅ succeeded") == 3


def test_files_that_cannot_be_read_are_said(scene: Scene, pull: Pull) -> None:
    problem = ".dstack/workflows.yaml:3:5: train: unknown key <b>gpus</b>\n@octocat"
    scene.wiring.db.write(lambda s: note_problem(s, 1, pull.head, problem, scene.clock.now(), Trigger.PUSH))
    scene.idle()
    assert "- config error: .dstack/workflows.yaml:3:5: train: unknown key" in pull.comments[0]
    assert "<b>" not in pull.comments[0] and "@octocat" not in pull.comments[0]
