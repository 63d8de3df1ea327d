"""`dstack deliveries` and its operations: what came, what it did, and handling one again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from joined_github import REPO, Joined, joined, workflows
from served_api import ADMIN_TOKEN

from dstack.cli.main import main


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Joined]:
    """For tests that change nothing of it."""
    with joined(tmp_path_factory.mktemp("still"), workflows(train="push")) as scene:
        yield scene


def cli(
    scene: Joined, capsys: pytest.CaptureFixture[str], *words: str, token: str = ADMIN_TOKEN
) -> tuple[int, str, str]:
    code = main(["deliveries", *words, "--server", scene.api.url, "--token", token])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_what_came_and_what_it_did(scene: Joined, capsys: pytest.CaptureFixture[str]) -> None:
    sha = scene.fake.push(REPO, "main", {"a": "1"})
    scene.settle()
    code, out, _ = cli(scene, capsys, "--json")
    rows = json.loads(out)
    push = next(row for row in rows if row["event"] == "push")
    assert code == 0 and [row["id"] for row in rows] == sorted((row["id"] for row in rows), reverse=True)
    assert push["repo"] == REPO and push["sender"] == "octocat" and push["state"] == "processed"
    assert push["runs"] == [run.name for run in scene.runs(sha)] and push["replay_of"] is None
    assert {row["event"] for row in rows} >= {"installation.created", "push"}
    _, table, _ = cli(scene, capsys)
    assert table.splitlines()[0].split()[:4] == ["ID", "STATE", "EVENT", "RECEIVED"]
    assert push["runs"][0] in table
    assert json.loads(cli(scene, capsys, "--json", "--state", "failed")[1]) == []
    assert len(json.loads(cli(scene, capsys, "--json", "--limit", "1")[1])) == 1
    assert {row["repo"] for row in json.loads(cli(scene, capsys, "--json", "--repo", REPO)[1])} == {REPO}


def test_a_replay_makes_what_is_missing_and_nothing_twice(scene: Joined, capsys: pytest.CaptureFixture[str]) -> None:
    sha = scene.fake.push(REPO, "main", {"a": "1"})
    scene.settle()
    row = scene.last("push")
    code, out, _ = cli(scene, capsys, "replay", str(row.id))
    scene.settle()
    again = scene.last("push")
    assert code == 0 and int(out) == again.id and again.replay_of == row.id and again.payload == row.payload
    assert again.guid.startswith(f"replay:{row.id}:") and again.reason == "this commit has been run before"
    assert len(scene.runs(sha)) == 1


def test_a_replay_after_the_cause_is_mended(scene: Joined) -> None:
    scene.fake.suspend(scene.installation)
    scene.settle()
    number = scene.fake.repo(REPO).id
    sha = scene.fake.commit(REPO, "main", {"a": "1"})
    body: dict[str, Any] = {
        "ref": "refs/heads/main", "before": "0" * 40, "after": sha, "head_commit": None,
        "repository": {"id": number, "full_name": REPO}, "sender": {"login": "octocat", "type": "User"},
        "installation": {"id": scene.installation},
    }  # fmt: skip
    scene.fake.send_raw("push", body)
    scene.settle()
    row = scene.last("push")
    assert row.state == "ignored" and not scene.runs(sha)
    scene.fake.unsuspend(scene.installation)
    scene.settle()
    made = scene.api.ok("POST", f"/api/v1/deliveries/{row.id}/replay")
    scene.settle()
    found = scene.api.ok("GET", f"/api/v1/deliveries/{made['id']}")
    assert found["state"] == "processed" and found["runs"] == [run.name for run in scene.runs(sha)]


def test_what_was_asked_for_by_hand_is_not_replayed(scene: Joined) -> None:
    sha = scene.fake.push(REPO, "main", {"a": "1"})
    scene.settle()
    request = {"repo": REPO, "sha": sha, "workflow": "by_hand"}
    scene.api.ok("POST", "/api/v1/runs", json=request)
    row = next(row for row in scene.deliveries() if row.kind == "manual")
    answer = scene.api.call("POST", f"/api/v1/deliveries/{row.id}/replay")
    assert answer.status_code == 409 and "dstack restart" in answer.json()["hint"]
    assert len(scene.runs(sha)) == 2


def test_who_may(still: Joined, capsys: pytest.CaptureFixture[str]) -> None:
    _, token = still.api.member()
    row = still.deliveries()[0]
    assert cli(still, capsys, token=token)[0] == 0
    assert cli(still, capsys, "replay", str(row.id), token=token)[0] == 4


@pytest.mark.parametrize(
    ("words", "code"),
    [(["replay"], 2), (["list", "1"], 2), (["replay", "999999"], 5), (["replay", "x"], 5), (["--state", "odd"], 1)],
)
def test_wrong_words(still: Joined, capsys: pytest.CaptureFixture[str], words: list[str], code: int) -> None:
    assert cli(still, capsys, *words)[0] == code


def test_pages_of_the_list(scene: Joined) -> None:
    for number in range(3):
        scene.fake.push(REPO, "main", {"a": str(number)})
    scene.settle()
    seen, cursor = [], ""
    while True:
        page = scene.api.ok("GET", f"/api/v1/deliveries?limit=2&cursor={cursor}")
        seen += [row["id"] for row in page["deliveries"]]
        cursor = page["next"] or ""
        if not cursor:
            break
    assert seen == [row.id for row in reversed(scene.deliveries())]
