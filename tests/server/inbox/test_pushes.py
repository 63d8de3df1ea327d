"""Pushes at the forge: fetched, then the same road as a push to our own remote."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from joined_github import FILE, REPO, Joined, joined, workflows
from sqlmodel import select

from dstack.server.gateways.local_git import LocalGit
from dstack.server.models import Head
from dstack.server.models.delivery import DeliveryState
from dstack.server.services.reconcile_heads import reconcile_heads
from dstack.server.services.settle_delivery import MAX_TRIES
from dstack.server.timers.watch_github import GithubWatch


def names(scene: Joined, sha: str) -> list[str]:
    return sorted(run.workflow for run in scene.runs(sha))


def test_a_push_starts_runs_of_its_commit(scene: Joined) -> None:
    sha = scene.fake.push(REPO, "main", {"a.txt": "1"})
    scene.settle()
    (run,) = scene.runs()
    assert (run.workflow, run.sha, run.branch, run.trigger, run.is_clean) == ("train", sha, "main", "push", True)
    delivery = scene.last("push")
    repo = scene.repo()
    assert repo is not None
    assert delivery.state is DeliveryState.PROCESSED and delivery.repo_id == repo.id and delivery.sender == "octocat"
    assert scene.api.wiring.git.has_commit(str(repo.id), sha)


def test_the_same_push_under_another_id_makes_no_second_run(scene: Joined) -> None:
    sha = scene.fake.push(REPO, "main", {"a.txt": "1"})
    scene.settle()
    scene.fake.webhooks.double(3)
    payload = next(d.payload for d in scene.fake.webhooks.log if d.event == "push")
    for _ in range(3):
        scene.fake.send_raw("push", payload)
    scene.settle()
    assert names(scene, sha) == ["train"]
    reasons = [row.reason for row in scene.deliveries("push")[1:]]
    assert reasons == ["this commit has been run before"] * 3


def test_tags_plain_and_with_a_message(tmp_path: Path) -> None:
    with joined(tmp_path, workflows(train="{push: {tags: ['v*']}}")) as scene:
        main = scene.fake.head(REPO, "main")
        scene.fake.push_tag(REPO, "v1")
        scene.fake.push_tag(REPO, "other")
        scene.settle()
        assert names(scene, main) == ["train"]
        sha = scene.fake.commit(REPO, "main", {"a": "1"})
        scene.fake.push_tag(REPO, "v2", message="The second")
        scene.settle()
        (run,) = scene.runs(sha)
        assert run.sha == sha and run.branch == ""
        assert scene.not_needed(sha) == {}


def test_deleted_branches_start_nothing_and_are_forgotten(scene: Joined) -> None:
    scene.fake.push(REPO, "topic", {"a": "1"})
    scene.settle()
    assert "refs/heads/topic" in heads(scene)
    scene.fake.delete_branch(REPO, "topic")
    scene.settle()
    row = scene.last("push")
    assert row.state is DeliveryState.IGNORED and row.reason == "refs/heads/topic was deleted"
    assert scene.last("delete").state is DeliveryState.IGNORED
    assert "refs/heads/topic" not in heads(scene)


def heads(scene: Joined) -> set[str]:
    return set(scene.api.wiring.db.read(lambda s: s.exec(select(Head.ref)).all()))


def test_a_forced_push_runs_what_it_leads_to(scene: Joined) -> None:
    first = scene.fake.push(REPO, "main", {"a": "1"})
    aside = scene.fake.push(REPO, "main", {"a": "2"})
    scene.settle()
    back = scene.fake.commit(REPO, "aside", {"b": "1"}, parent=first)
    scene.fake.force_push(REPO, "main", back)
    scene.settle()
    assert [names(scene, sha) for sha in (first, aside, back)] == [["train"]] * 3
    scene.fake.force_push(REPO, "main", first)
    scene.settle()
    assert len(scene.runs(first)) == 1


def object_file(git: LocalGit, repo_id: str, name: str) -> Path:
    """Where an object is stored by itself, taken out of the packs first."""
    for pack in (git.path(repo_id) / "objects" / "pack").glob("*.pack"):
        aside = pack.rename(git.path(repo_id) / pack.name)
        pack.with_suffix(".idx").unlink()
        git.ask(repo_id, ["unpack-objects", "-q"], stdin=aside.read_bytes())
    sha = git.ask(repo_id, ["rev-parse", name]).decode().strip()
    return git.path(repo_id) / "objects" / sha[:2] / sha[2:]


def test_a_commit_that_git_cannot_read_for_a_while_is_found_again(tmp_path: Path) -> None:
    """Its branch does not count as handled, so that the next comparison starts what the push did not."""
    files = workflows(train="{push: {branches: [main]}}")
    with joined(tmp_path, files) as scene:
        GithubWatch().look(scene.api.wiring)  # what there is now is old
        sha = scene.fake.push(REPO, "aside", {FILE: files[FILE] + "# another\n"}, parent=scene.fake.head(REPO, "main"))
        scene.settle()
        repo = scene.repo()
        assert repo is not None
        git = scene.api.wiring.git
        stored = object_file(git, str(repo.id), f"{sha}:{FILE}")
        good = stored.read_bytes()
        stored.unlink()  # it is written read-only
        stored.write_bytes(b"no object")
        scene.fake.force_push(REPO, "main", sha)
        scene.settle()
        failed = scene.last("push")
        assert (failed.state, failed.tries) == (DeliveryState.FAILED, MAX_TRIES - 1)
        assert failed.reason.startswith("git cannot read") and "config" not in scene.not_needed(sha)
        assert scene.runs(sha) == []
        stored.write_bytes(good)
        assert reconcile_heads(scene.api.wiring) == 1
        scene.settle()
        assert names(scene, sha) == ["train"]


ODD = ["$(id)", "a'b\"c", "überräschung", "عربى", "🦦/otter", "a" * 200, "feature/#1;reboot", "x&&y", "%2e%2e", "`id`"]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Joined]:
    with joined(tmp_path_factory.mktemp("odd"), workflows(train="push")) as scene:
        yield scene


@pytest.mark.parametrize("branch", ODD, ids=ascii)
def test_odd_names_of_branches_are_names(shared: Joined, branch: str) -> None:
    sha = shared.fake.push(REPO, branch, {"a": branch})
    shared.settle()
    (run,) = shared.runs(sha)
    assert run.branch == branch
    assert shared.api.get_run(run.name)["branch"] == branch


@pytest.mark.parametrize("ref", ["refs/heads/-x", "refs/heads/../../x", "refs/heads/a b", "refs/heads/x.lock"])
def test_what_is_no_name_reaches_no_git(shared: Joined, ref: str) -> None:
    payload = {**next(d.payload for d in shared.fake.webhooks.log if d.event == "push"), "ref": ref}
    before = len(shared.runs())
    shared.fake.send_raw("push", {**payload, "after": "1" * 40, "head_commit": None})
    shared.settle(60)
    assert shared.last("push").state is DeliveryState.FAILED and len(shared.runs()) == before


@pytest.mark.parametrize("sha", ["-x", "HEAD", "1" * 39, "../../x", "A" * 40])
def test_what_is_no_commit_reaches_no_git(shared: Joined, sha: str) -> None:
    payload = next(d.payload for d in shared.fake.webhooks.log if d.event == "push")
    before = len(shared.runs())
    shared.fake.send_raw("push", {**payload, "after": sha, "head_commit": None})
    shared.settle(60)
    assert shared.last("push").state is DeliveryState.FAILED and len(shared.runs()) == before


def test_notes_and_other_refs_are_nobodys_push(shared: Joined) -> None:
    payload = {**next(d.payload for d in shared.fake.webhooks.log if d.event == "push"), "ref": "refs/notes/dstack"}
    shared.fake.send_raw("push", payload)
    shared.settle()
    assert shared.last("push").reason == "neither a branch nor a tag was pushed"


def test_while_github_does_not_answer_a_push_waits_and_holds_up_no_other(
    scene: Joined, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dstack.server.lanes._AGAIN_AT_FORGE_S", (0.2, 0.2))
    with scene.fake.outage():
        sha = scene.fake.push(REPO, "main", {"a": "1"})
        scene.fake.flush()
        copy = scene.api.working_copy()
        copy.commit(workflows(train="push"))
        copy.push()
        assert len(copy.runs()) == 1, "our own remote needs no GitHub"
        assert not scene.runs(sha)
        assert scene.last("push").state is DeliveryState.RECEIVED
    scene.settle()
    assert names(scene, sha) == ["train"]
