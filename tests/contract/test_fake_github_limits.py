"""The fake GitHub refuses what GitHub refuses, and its checks behave as GitHub's do."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from fake_github import FakeGitHub
from fake_github_scene import REPO, Receiver, Scene

CHECKS = f"/repos/{REPO}/check-runs"


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    receiver = Receiver()
    with FakeGitHub(tmp_path / "github") as github:
        github.check_answers = True
        yield Scene(github, receiver)
        github.flush()
    receiver.close()


def status(scene: Scene, **body: Any) -> requests.Response:
    sha = scene.github.head(REPO)
    return scene.call("POST", f"/repos/{REPO}/statuses/{sha}", json={"state": "success", "context": "x", **body})


def check(scene: Scene, **body: Any) -> requests.Response:
    given = {"name": "dstack / train", "head_sha": scene.github.head(REPO), **body}
    return scene.call("POST", CHECKS, json=given)


# Limits


def output(**more: Any) -> dict[str, Any]:
    return {"output": {"title": "t", "summary": "s", **more}}


NOTE = {"path": "a", "start_line": 1, "end_line": 1, "annotation_level": "failure", "message": "m"}
BUTTON = {"label": "Tag latest", "description": "d", "identifier": "tag"}


@pytest.mark.parametrize(
    "body, allowed",
    [
        (output(summary="é" * 32_767), True),
        (output(summary="é" * 32_768), False),  # bytes, not characters
        (output(text="x" * 65_536), False),
        (output(annotations=[NOTE] * 50), True),
        (output(annotations=[NOTE] * 51), False),
        ({"actions": [BUTTON] * 3}, True),
        ({"actions": [BUTTON] * 4}, False),
        ({"actions": [{**BUTTON, "label": "x" * 21}]}, False),
        ({"actions": [{**BUTTON, "identifier": "x" * 21}]}, False),
        ({"actions": [{**BUTTON, "description": "x" * 41}]}, False),
        ({"status": "completed"}, False),
        ({"head_sha": "f" * 40}, False),
    ],
)
def test_what_a_check_run_may_hold(scene: Scene, body: dict[str, Any], allowed: bool) -> None:
    assert check(scene, **body).status_code == (201 if allowed else 422)


def test_what_a_status_may_hold(scene: Scene) -> None:
    assert status(scene, description="é" * 140).status_code == 201
    assert status(scene, description="x" * 141).status_code == 422
    assert status(scene, state="running").status_code == 422
    scene.github.max_statuses = 3
    assert [status(scene).status_code for _ in range(3)] == [201, 201, 422]  # one of this context was there
    assert status(scene, context="other").status_code == 201
    assert len(scene.github.all_statuses(REPO, scene.github.head(REPO), "x")) == 3


def test_what_a_comment_may_hold(scene: Scene) -> None:
    number = scene.github.open_issue(REPO, "Broken")
    path = f"/repos/{REPO}/issues/{number}/comments"
    assert scene.call("POST", path, json={"body": "é" * 131_072}).status_code == 201
    assert scene.call("POST", path, json={"body": "é" * 131_072 + "x"}).status_code == 422
    assert scene.call("POST", path, json={"body": ""}).status_code == 422


def test_an_issue_is_opened_closed_and_found_by_its_label(scene: Scene) -> None:
    made = scene.call("POST", f"/repos/{REPO}/issues", json={"title": "train fails", "labels": ["dstack"]})
    number = made.json()["number"]
    assert [i["number"] for i in scene.get(f"/repos/{REPO}/issues?labels=dstack")] == [number]
    scene.call("PATCH", f"/repos/{REPO}/issues/{number}", json={"state": "closed"})
    assert scene.get(f"/repos/{REPO}/issues") == []
    assert scene.get(f"/repos/{REPO}/issues?state=all")[0]["state"] == "closed"
    assert [i.app for i in scene.github.issues(REPO)] == [scene.app]


def test_what_github_does_not_describe_is_a_violation(scene: Scene) -> None:
    assert scene.call("GET", f"/repos/{REPO}/nonsense").status_code == 404
    assert len(scene.github.violations) == 1
    assert scene.call("DELETE", f"/repos/{REPO}").status_code == 404
    assert len(scene.github.violations) == 2
    if scene.github.described:
        assert status(scene, target_url=7).status_code == 422
        assert status(scene, stage="x").status_code == 201  # GitHub ignores it, a test should not
        assert [text.split(":")[1].strip()[:7] for text in scene.github.violations[2:]] == ["$.targe", "unknown"]


# Checks


def test_buttons_and_reruns_come_back_to_the_app(scene: Scene) -> None:
    made = check(scene, actions=[BUTTON]).json()
    with pytest.raises(AssertionError):
        scene.github.press_action(made["id"], "tag")
    done = scene.call("PATCH", f"{CHECKS}/{made['id']}", json={"conclusion": "failure", **output()})
    assert done.json()["status"] == "completed"
    scene.github.press_action(made["id"], "tag", "jane")
    scene.github.press_rerun(made["id"], "jane")
    scene.github.press_rerun_suite(scene.github.suites(REPO, scene.github.head(REPO))[0])
    scene.github.flush()
    events = scene.receiver.events("check_run")
    assert [e["action"] for e in events] == ["created", "completed", "requested_action", "rerequested"]
    assert events[2]["requested_action"] == {"identifier": "tag"} and events[2]["sender"]["login"] == "jane"
    assert events[0]["sender"]["type"] == "Bot"
    assert scene.receiver.events("check_suite")[-1]["action"] == "rerequested"


def test_a_check_nobody_touches_goes_stale(tmp_path: Path) -> None:
    now = [time.time()]
    receiver = Receiver()
    with FakeGitHub(tmp_path, clock=lambda: now[0]) as github:
        scene = Scene(github, receiver)
        check(scene, status="in_progress")
        now[0] += 15 * 24 * 3600
        assert [run.conclusion for run in github.checks(REPO)] == ["stale"]
        assert scene.call("GET", f"/repos/{REPO}").status_code == 401  # the token is long dead
    receiver.close()
