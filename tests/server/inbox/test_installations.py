"""Where the App is installed, which repositories it sees, and what they are called: by number, not by name."""

from __future__ import annotations

from pathlib import Path

import pytest
from joined_github import REPO, Joined, joined, workflows
from served_api import wait_for
from sqlmodel import select

from dstack.server.models import Installation
from dstack.server.models.delivery import DeliveryState
from dstack.server.services.record_installation import NOT_COVERED, SUSPENDED, UNINSTALLED
from dstack.server.store.reports import parked
from dstack.server.store.repos import repo_as_written


def installation(scene: Joined) -> Installation:
    return scene.api.wiring.db.read(lambda s: s.exec(select(Installation)).one())


def push(scene: Joined, which: object = REPO, text: str = "1") -> str:
    sha = scene.fake.push(which, "main", {"a.txt": text})  # type: ignore[arg-type]
    scene.settle()
    return sha


def test_installing_makes_the_repositories_known_and_runs_nothing(scene: Joined) -> None:
    repo = scene.repo()
    assert repo is not None and repo.full_name == REPO and repo.is_private and repo.is_mirror
    assert repo.installation_id == scene.installation and repo.problem == ""
    row = installation(scene)
    assert (row.account, row.suspended, row.removed) == ("acme", False, False)
    assert row.permissions == scene.app.permissions
    assert scene.last("installation.created").reason == f"the App was installed for acme\n{REPO} is new here"
    assert not scene.runs()


def test_repositories_come_and_go(tmp_path: Path) -> None:
    with joined(tmp_path, workflows(train="push"), install=False) as scene:
        other = scene.fake.create_repo("acme/other", files=workflows(train="push"))
        number = scene.fake.install(scene.app, "acme", [REPO])
        scene.settle()
        assert scene.repo("acme/other") is None
        scene.fake.add_repos(number, [other])
        scene.settle()
        assert scene.runs(push(scene, other))
        scene.fake.remove_repos(number, [other])
        scene.settle()
        left = scene.repo("acme/other")
        assert left is not None and left.installation_id is None and left.problem == NOT_COVERED
        assert scene.last("installation_repositories.removed").reason == "acme/other is left alone from now on"


def test_a_suspended_one_starts_nothing_until_it_goes_on(scene: Joined) -> None:
    scene.fake.suspend(scene.installation)
    scene.settle()
    repo = scene.repo()
    assert repo is not None and repo.problem == SUSPENDED and installation(scene).suspended
    assert not scene.runs(push(scene))
    if scene.deliveries("push"):
        assert scene.last("push").state is DeliveryState.IGNORED and scene.last("push").reason == SUSPENDED
    scene.fake.unsuspend(scene.installation)
    scene.settle()
    assert scene.runs(push(scene, text="2"))


def test_one_that_is_removed_leaves_runs_and_starts_no_more(scene: Joined) -> None:
    sha = push(scene)
    scene.fake.uninstall(scene.installation)
    scene.settle()
    repo = scene.repo()
    assert repo is not None and repo.installation_id is None and repo.problem == UNINSTALLED
    assert installation(scene).removed and len(scene.runs(sha)) == 1


def raw_push(scene: Joined, forge_id: int, number: int | None, sha: str) -> str:
    """A push as GitHub words it, of whatever repository and installation."""
    payload = {
        "ref": "refs/heads/main", "before": "0" * 40, "after": sha, "created": False, "deleted": False, "forced": False,
        "head_commit": None, "repository": {"id": forge_id, "full_name": "acme/elsewhere"},
        "sender": {"login": "octocat", "type": "User"}, **({"installation": {"id": number}} if number else {}),
    }  # fmt: skip
    guid = scene.fake.send_raw("push", payload)
    assert guid is not None
    scene.settle()
    return guid


@pytest.mark.parametrize("number", [None, 424242])
def test_an_unknown_repository_or_installation_is_ignored_and_kept(scene: Joined, number: int | None) -> None:
    raw_push(scene, 99999999, number, "1" * 40)
    row = scene.last("push")
    assert row.state is DeliveryState.IGNORED and row.reason == "the App is not installed for acme/elsewhere"
    assert row.payload and not scene.runs()


def test_an_app_that_was_installed_before_the_server_knew_is_learned_of(tmp_path: Path) -> None:
    with joined(tmp_path, workflows(train="push"), install=False) as scene:
        scene.fake.webhooks.drop(event="installation")
        scene.fake.install(scene.app, "acme")
        assert scene.repo() is None
        sha = push(scene)
        assert [run.workflow for run in scene.runs(sha)] == ["train"]
        assert installation(scene).account == "acme"


def test_a_push_that_comes_before_the_news_of_the_installation(tmp_path: Path) -> None:
    with joined(tmp_path, workflows(train="push"), install=False) as scene:
        scene.fake.webhooks.hold()
        scene.fake.install(scene.app, "acme")
        sha = scene.fake.push(REPO, "main", {"a": "1"})
        held = scene.fake.webhooks._held or []
        held.reverse()
        scene.fake.webhooks.release()
        scene.settle()
        assert [run.workflow for run in scene.runs(sha)] == ["train"]


def test_our_own_remotes_repo_of_the_same_name_becomes_it(tmp_path: Path) -> None:
    with joined(tmp_path, workflows(train="push"), install=False) as scene:
        copy = scene.api.working_copy(REPO)
        copy.git("pull", "-q", str(scene.fake.repo(REPO).path), "main")
        copy.push()
        before = scene.api.repo_id(REPO)
        assert len(copy.runs()) == 1
        scene.fake.install(scene.app, "acme")
        scene.settle()
        repo = scene.repo()
        assert repo is not None and repo.id == before
        assert f"{REPO} of this server's own remote lives on GitHub" in scene.last("installation.created").reason
        sha = push(scene)
        assert scene.runs(sha)[0].repo_id == before
        assert len(copy.runs()) == 2, "its history stays"


def test_a_renamed_and_a_transferred_repository_stay_themselves(scene: Joined) -> None:
    first = scene.runs(push(scene))[0]
    scene.fake.rename_repo(REPO, "sight")
    scene.settle()
    repo = scene.repo("acme/sight")
    assert repo is not None and repo.id == first.repo_id and repo.full_name == "acme/sight"
    assert scene.last("repository.renamed").reason == f"{REPO} is called acme/sight now"
    assert scene.runs(push(scene, "acme/sight", "2"))[0].repo_id == first.repo_id

    other = scene.fake.install(scene.app, "umbrella")
    scene.fake.transfer_repo("acme/sight", "umbrella")
    scene.settle()
    repo = scene.repo("umbrella/sight")
    assert repo is not None and repo.id == first.repo_id and repo.full_name == "umbrella/sight"
    assert repo.installation_id == other and repo.problem == ""
    assert scene.runs(push(scene, "umbrella/sight", "3"))[0].repo_id == first.repo_id

    # What others wrote before is meant as it was, until another takes the name.
    assert {meant(scene, name) for name in (REPO, "acme/sight", "umbrella/sight")} == {first.repo_id}
    assert meant(scene, "acme/none") is None
    scene.fake.create_repo(REPO, files=workflows(train="push"))
    scene.settle()
    new = scene.runs(push(scene, REPO, "4"))[0].repo_id
    assert new != first.repo_id and meant(scene, REPO) == new and meant(scene, "acme/sight") == first.repo_id


def meant(scene: Joined, written: str) -> int | None:
    owner, _, name = written.partition("/")
    repo = scene.api.wiring.db.read(lambda s: repo_as_written(s, owner, name))
    return repo.id if repo is not None else None


def test_a_name_that_another_repository_takes_over(scene: Joined) -> None:
    """Even where the news of the renaming has not come."""
    first = scene.repo()
    scene.fake.webhooks.drop(event="repository")
    scene.fake.rename_repo(REPO, "old-vision")
    scene.fake.create_repo(REPO, files=workflows(train="push"))
    scene.settle()
    second = scene.repo()
    moved = scene.repo("acme/old-vision")
    assert first is not None and second is not None and moved is not None
    assert second.id != first.id and second.full_name == REPO
    assert moved.id == first.id and moved.full_name != REPO


def test_a_deleted_repository_and_one_shown_to_all(scene: Joined) -> None:
    repo = scene.fake.repo(REPO)
    body = {
        "action": "publicized",
        "repository": {"id": repo.id, "full_name": REPO, "private": False, "default_branch": "main"},
        "installation": {"id": scene.installation}, "sender": {"login": "octocat", "type": "User"},
    }  # fmt: skip
    scene.fake.send_raw("repository", body)
    scene.settle()
    found = scene.repo()
    assert found is not None and not found.is_private
    scene.fake.delete_repo(REPO)
    scene.settle()
    rows = [row for row in scene.api.ok("GET", "/api/v1/repos") if row["name"] == REPO]
    assert rows, "its runs stay, and so does its name"
    assert scene.last("repository.deleted").reason == f"{REPO} was deleted; its runs stay"


def test_what_was_refused_is_sent_again_when_permissions_grow(scene: Joined) -> None:
    poor = {**scene.app.permissions, "statuses": "read"}
    scene.fake.grant(scene.installation, poor)
    scene.fake.expire_tokens()  # one from before has the rights of before
    scene.settle()
    sha = push(scene)
    wait_for(lambda: scene.api.wiring.db.read(parked))
    assert not scene.fake.statuses(REPO, sha)
    scene.fake.grant(scene.installation, scene.app.permissions)
    scene.settle()
    wait_for(lambda: "dstack/train" in scene.fake.statuses(REPO, sha))
    wait_for(lambda: not scene.api.wiring.db.read(parked))


def test_a_strangers_repository_of_our_name_gets_nothing_of_ours(tmp_path: Path) -> None:
    """Whoever may make a repository in the organization would else have our secrets and tags."""
    with joined(tmp_path, workflows(train="push"), install=False) as scene:
        ours = scene.api.working_copy(REPO)
        ours.commit({"ours.txt": "1"})
        ours.push()
        scene.fake.install(scene.app, "acme")
        scene.settle()
        said = scene.last("installation.created").reason
        assert "does not have its newest commit" in said
        sha = scene.fake.push(REPO, "main", {"a.txt": "2"})
        scene.settle()
        assert scene.repo() is None and not scene.runs(sha)
        assert "does not have its newest commit" in scene.last("push").reason
