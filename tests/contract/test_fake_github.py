"""The fake GitHub behaves as GitHub does: what tests of the App rely on, tried over real HTTP and real git."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from fake_github import FakeGitHub
from fake_github_scene import REPO, Receiver, Scene, git


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    receiver = Receiver()
    with FakeGitHub(tmp_path / "github") as github:
        github.check_answers = True
        yield Scene(github, receiver)
        github.flush()
        assert not github.violations
    receiver.close()


def test_every_reading_answer_is_as_github_describes_it(scene: Scene) -> None:
    github = scene.github
    one = f"/repos/{REPO}"
    sha = github.push(REPO, "feature", {"docs/b.md": "b\n", "train.py": "print(2)\n", "docs/a.md": None})
    number = github.open_pull(REPO, "feature")
    comment = github.comment(REPO, number, "jane", "Nice.")
    assert scene.call("POST", f"{one}/statuses/{sha}", json={"state": "success", "context": "x"}).status_code == 201
    made = scene.call("POST", f"{one}/check-runs", json={
        "name": "dstack / train", "head_sha": sha, "status": "in_progress",
        "output": {"title": "t", "summary": "s", "annotations": [
            {"path": "train.py", "start_line": 1, "end_line": 1, "annotation_level": "notice", "message": "m"}]},
    })  # fmt: skip
    assert made.status_code == 201, made.text
    assert scene.get(one)["default_branch"] == "main"
    assert {b["name"] for b in scene.get(f"{one}/branches")} == {"main", "feature"}
    assert scene.get(f"{one}/commits/feature")["sha"] == sha
    assert scene.get(f"{one}/commits/{sha}/status")["state"] == "success"
    assert [s["context"] for s in scene.get(f"{one}/commits/{sha}/statuses")] == ["x"]
    assert scene.get(f"{one}/commits/{sha}/check-runs")["check_runs"][0]["output"]["annotations_count"] == 1
    assert scene.get(f"{one}/check-runs/{made.json()['id']}/annotations")[0]["path"] == "train.py"
    difference = scene.get(f"{one}/compare/main...feature")
    assert (difference["status"], difference["ahead_by"]) == ("ahead", 1)
    assert {(f["filename"], f["status"]) for f in difference["files"]} >= {("train.py", "modified")}
    assert scene.get(f"{one}/contents/train.py?ref=feature")["size"] == 9
    assert {e["name"] for e in scene.get(f"{one}/contents/docs")} == {"a.md"}
    assert [p["number"] for p in scene.get(f"{one}/pulls?state=open")] == [number]
    assert scene.get(f"{one}/pulls/{number}")["head"]["sha"] == sha
    assert {f["filename"] for f in scene.get(f"{one}/pulls/{number}/files")} >= {"train.py"}
    assert [c["id"] for c in scene.get(f"{one}/issues/{number}/comments")] == [comment]
    assert scene.get(f"{one}/issues/comments/{comment}")["body"] == "Nice."
    assert {r["ref"] for r in scene.get(f"{one}/git/matching-refs/heads")} == {"refs/heads/main", "refs/heads/feature"}
    assert [r["ref"] for r in scene.get(f"{one}/git/matching-refs/pull/")] == [f"refs/pull/{number}/head"]
    assert scene.get("/installation/repositories")["total_count"] == 1
    assert scene.get("/rate_limit")["rate"]["limit"] == 5000


def test_the_app_sees_itself_its_installations_and_deliveries(scene: Scene) -> None:
    scene.github.push(REPO, "main", {"a": "1"})
    scene.github.flush()
    assert scene.as_app("GET", "/app").json()["slug"] == "dstack"
    assert [i["id"] for i in scene.as_app("GET", "/app/installations").json()] == [scene.installation]
    assert scene.as_app("GET", f"/repos/{REPO}/installation").json()["id"] == scene.installation
    assert scene.as_app("GET", "/app/hook/config").json()["url"] == scene.receiver.url
    shown = scene.as_app("GET", "/app/hook/deliveries").json()
    assert {d["event"] for d in shown} >= {"installation", "push"}
    whole = scene.as_app("GET", f"/app/hook/deliveries/{shown[0]['id']}").json()
    assert whole["request"]["headers"]["X-GitHub-Delivery"] == shown[0]["guid"]


@pytest.mark.parametrize(
    "claims, message",
    [
        ({"exp": 2_000_000_000_0}, "too far"),
        ({"exp": 1_000_000_000}, "Expiration time"),
        ({"iat": 2_000_000_000_0}, "Issued at"),
        ({"iss": "77"}, "could not be decoded"),
    ],
)
def test_a_jwt_must_be_right(scene: Scene, claims: dict[str, Any], message: str) -> None:
    headers = {"Authorization": f"Bearer {scene.jwt(**claims)}"}
    answer = requests.get(scene.github.api_url + "/app", headers=headers, timeout=20)
    assert answer.status_code == 401 and message in answer.json()["message"]


def test_webhooks_are_signed_and_say_what_happened(scene: Scene) -> None:
    before = scene.github.head(REPO)
    sha = scene.github.push(REPO, "main", {"new.py": "x\n", "train.py": "print(3)\n"}, "More", author="jane")
    scene.github.flush()
    (push,) = scene.receiver.events("push")
    assert (push["ref"], push["before"], push["after"]) == ("refs/heads/main", before, sha)
    assert (push["created"], push["deleted"], push["forced"]) == (False, False, False)
    assert push["commits"][0]["added"] == ["new.py"] and push["commits"][0]["modified"] == ["train.py"]
    assert push["sender"]["login"] == "jane" and push["installation"]["id"] == scene.installation
    for headers, body in scene.receiver.came:
        signed = hmac.new(scene.app.webhook_secret.encode(), body, hashlib.sha256).hexdigest()
        assert headers["x-hub-signature-256"] == f"sha256={signed}"
        assert headers["x-github-hook-installation-target-id"] == str(scene.app.id)


def test_a_branch_made_forced_and_deleted(scene: Scene) -> None:
    start = scene.github.head(REPO)
    first = scene.github.push(REPO, "side", {"a": "1"})
    scene.github.force_push(REPO, "side", start)
    scene.github.delete_branch(REPO, "side")
    scene.github.create_branch(REPO, "same", start)
    scene.github.flush()
    made, forced, gone, same = scene.receiver.events("push")
    assert same["commits"] == [] and same["base_ref"] == "refs/heads/main" and same["head_commit"]["id"] == start
    assert made["created"] and made["after"] == first and set(made["before"]) == {"0"}
    assert [c["id"] for c in made["commits"]] == [first]
    assert forced["forced"] and forced["after"] == start
    assert gone["deleted"] and gone["head_commit"] is None
    assert [e["ref"] for e in scene.receiver.events("create")] == ["side", "same"]
    assert [e["ref"] for e in scene.receiver.events("delete")] == ["side"]


def test_more_than_three_tags_at_once_are_announced_to_nobody(scene: Scene) -> None:
    scene.github.push_tag(REPO, "v1", message="One")
    scene.github.push_tags(REPO, ["a", "b", "c", "d"])
    scene.github.flush()
    (push,) = scene.receiver.events("push")
    assert push["ref"] == "refs/tags/v1" and push["head_commit"]["id"] == scene.github.head(REPO)


def test_a_pull_request_of_a_fork_is_fetched_from_the_base(scene: Scene, tmp_path: Path) -> None:
    github = scene.github
    fork = github.fork(REPO, "mallory")
    sha = github.push(fork, "evil", {"train.py": "import os\n"}, author="mallory")
    number = github.open_pull(REPO, "evil", head_repo=fork, author="mallory")
    newer = github.push_pull(REPO, number, {"more.py": "x"})
    github.flush()
    assert "push" not in scene.receiver.names  # a fork's pushes are not the App's business
    opened, moved = scene.receiver.events("pull_request")
    assert (opened["action"], opened["pull_request"]["head"]["repo"]["full_name"]) == ("opened", "mallory/vision")
    assert (moved["action"], moved["before"], moved["after"]) == ("synchronize", sha, newer)
    assert scene.clone(tmp_path / "c", scene.token).returncode == 0
    assert git("fetch", "origin", f"refs/pull/{number}/head", cwd=tmp_path / "c").returncode == 0
    assert git("rev-parse", "FETCH_HEAD", cwd=tmp_path / "c").stdout.strip() == newer
    github.delete_repo(fork)
    assert scene.get(f"/repos/{REPO}/pulls/{number}")["head"]["repo"] is None


def test_git_needs_a_token_that_may(scene: Scene, tmp_path: Path) -> None:
    assert "Authentication failed" in scene.clone(tmp_path / "a", "wrong").stderr
    assert scene.clone(tmp_path / "b", scene.token).returncode == 0
    git("commit", "-q", "--allow-empty", "-m", "x", cwd=tmp_path / "b")
    refused = git("push", "origin", "main", cwd=tmp_path / "b")
    assert "403" in refused.stderr  # contents: read
    plain = git("ls-remote", f"{scene.github.url}/{REPO}.git")
    assert plain.returncode != 0 and "could not read Username" in plain.stderr
    scene.github.create_repo("acme/open", private=False, files={"a": "1"})
    assert "refs/heads/main" in git("ls-remote", f"{scene.github.url}/acme/open.git").stdout


def test_a_push_over_http_is_announced_and_notes_are_not(scene: Scene, tmp_path: Path) -> None:
    scene.github.grant(scene.installation, {**scene.app.permissions, "contents": "write"})
    folder, token = tmp_path / "c", scene.get_token()
    assert scene.clone(folder, token).returncode == 0
    git("commit", "-q", "--allow-empty", "-m", "x", cwd=folder)
    git("notes", "--ref=dstack", "add", "-m", "note", cwd=folder)
    assert git("push", "origin", "main", "refs/notes/dstack", cwd=folder).returncode == 0
    scene.github.flush()
    (push,) = scene.receiver.events("push")
    assert push["ref"] == "refs/heads/main" and push["sender"]["type"] == "Bot"
    assert "refs/notes/dstack" in scene.github.refs(REPO)


def test_comments_reactions_and_whose_they_are(scene: Scene) -> None:
    scene.github.push(REPO, "f", {"a": "1"})
    number = scene.github.open_pull(REPO, "f")
    asked = scene.github.comment(REPO, number, "jane", "/dstack help")
    path = f"/repos/{REPO}/issues/comments/{asked}/reactions"
    assert [scene.call("POST", path, json={"content": "eyes"}).status_code for _ in range(2)] == [201, 200]
    made = scene.call("POST", f"/repos/{REPO}/issues/{number}/comments", json={"body": "Here."})
    scene.call("PATCH", f"/repos/{REPO}/issues/comments/{made.json()['id']}", json={"body": "There."})
    scene.github.flush()
    assert scene.github.reactions(asked) == ["eyes"]
    assert [c.body for c in scene.github.comments(REPO, number)] == ["/dstack help", "There."]
    by_jane, by_app, edited = scene.receiver.events("issue_comment")
    assert by_jane["comment"]["performed_via_github_app"] is None and "pull_request" in by_jane["issue"]
    assert by_app["sender"]["type"] == "Bot" and by_app["comment"]["performed_via_github_app"]["id"] == scene.app.id
    assert edited["changes"]["body"]["from"] == "Here."
    assert len(scene.github.writes()) == 4


def test_who_may_is_told_and_strangers_are_404(scene: Scene) -> None:
    scene.github.set_permission(REPO, "jane", "write", "maintain")
    scene.github.account("bob")
    path = f"/repos/{REPO}/collaborators"
    jane = scene.get(f"{path}/jane/permission")
    assert (jane["permission"], jane["role_name"]) == ("write", "maintain")
    assert scene.get(f"{path}/bob/permission")["permission"] == "none"
    assert scene.call("GET", f"{path}/ghost/permission").status_code == 404
    scene.github.delete_user("jane")
    assert scene.call("GET", f"{path}/jane/permission").status_code == 404


def test_a_token_does_what_it_was_made_for(scene: Scene) -> None:
    github = scene.github
    github.create_repo("acme/other", files={"a": "1"})
    assert scene.call("GET", "/repos/acme/other").status_code == 404
    reading = scene.get_token(permissions={"contents": "read"}, repositories=["vision"])
    refused = scene.call("POST", f"/repos/{REPO}/statuses/{github.head(REPO)}", reading, json={"state": "error"})
    assert (refused.status_code, refused.json()["message"]) == (403, "Resource not accessible by integration")
    github.suspend(scene.installation)
    assert scene.call("GET", f"/repos/{REPO}").status_code == 403
    github.unsuspend(scene.installation)
    github.expire_tokens()
    assert scene.call("GET", f"/repos/{REPO}").status_code == 401
    scene.token = scene.get_token()
    github.uninstall(scene.installation)
    assert scene.call("GET", f"/repos/{REPO}").status_code == 401
    github.flush()
    assert [e["action"] for e in scene.receiver.events("installation")] == [
        "created", "suspend", "unsuspend", "deleted",
    ]  # fmt: skip
