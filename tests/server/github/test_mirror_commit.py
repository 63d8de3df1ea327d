"""Commits of GitHub in the server's own repositories: what comes, from where, what stays, and what goes wrong."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from fake_github import FakeGitHub
from github_scene import Scene

from dstack.errors import ForgeDown, ForgeFailed, GitFailed, Invalid, NotConnected, TooLarge, Unavailable
from dstack.server.gateways.kept import keep_commits
from dstack.server.gateways.local_git import LocalGit
from dstack.server.gateways.mirrors import LOOK_S, FetchWatch, Mirrors, fork_id
from dstack.server.gateways.snapshots import read_files
from dstack.server.models import Repo
from dstack.server.services.mirror_commit import mirror_commit, mirror_heads


def fetches(scene: Scene) -> int:
    return sum(1 for call in scene.fake.git_ledger if call.method == "POST")


def test_a_commit_is_here_with_what_leads_to_it(scene: Scene) -> None:
    second = scene.fake.commit(scene.full, "main", {"train.py": "print(2)\n"})
    scene.fake.push_tag(scene.full, "v1", message="one")
    assert mirror_commit(scene.wiring, scene.repo, second) == ""
    git = scene.wiring.git
    assert read_files(git, scene.repo_id, second, ["train.py"]) == {"train.py": b"print(2)\n"}
    assert git.heads(scene.repo_id) == {"refs/heads/main": second, "refs/tags/v1": second}
    assert git.merge_base(scene.repo_id, scene.sha, second) == scene.sha


def test_a_commit_that_is_here_costs_no_call(scene: Scene) -> None:
    mirror_commit(scene.wiring, scene.repo, scene.sha)
    calls, before = len(scene.calls()), fetches(scene)
    with scene.fake.outage():
        assert mirror_commit(scene.wiring, scene.repo, scene.sha) == ""
    assert (len(scene.calls()), fetches(scene)) == (calls, before)


def test_a_commit_comes_with_its_branch_alone_where_that_is_known(scene: Scene) -> None:
    mirror_commit(scene.wiring, scene.repo, scene.sha, branch="main")
    scene.fake.create_branch(scene.full, "other", scene.sha)
    second = scene.fake.commit(scene.full, "main", {"train.py": "2"})
    mirror_commit(scene.wiring, scene.repo, second, branch="main")
    assert scene.wiring.git.heads(scene.repo_id) == {"refs/heads/main": second}


@pytest.mark.parametrize("branch", ["gone", "side/deeper", "in/the/way"])
def test_a_branch_that_cannot_be_had_alone_is_had_with_the_others(scene: Scene, branch: str) -> None:
    scene.fake.create_branch(scene.full, "side", scene.sha)
    mirror_heads(scene.wiring, scene.repo)
    scene.fake.delete_branch(scene.full, "side")
    moved = scene.fake.commit(scene.full, "side/deeper", {"a": "2"}, parent=scene.sha)
    mirror_commit(scene.wiring, scene.repo, moved, branch=branch)
    assert scene.wiring.git.heads(scene.repo_id) == {"refs/heads/main": scene.sha, "refs/heads/side/deeper": moved}


def test_a_commit_no_branch_has_any_more_is_fetched_by_its_id(scene: Scene) -> None:
    lost = scene.fake.commit(scene.full, "main", {"train.py": "lost\n"})
    scene.fake.force_push(scene.full, "main", scene.sha)
    mirror_commit(scene.wiring, scene.repo, lost, branch="main")
    assert scene.wiring.git.has_commit(scene.repo_id, lost)
    assert scene.wiring.git.heads(scene.repo_id) == {"refs/heads/main": scene.sha}


def test_a_commit_that_is_nowhere_says_so(scene: Scene) -> None:
    with pytest.raises(GitFailed) as failed:
        mirror_commit(scene.wiring, scene.repo, "1" * 40)
    assert "forced push" in failed.value.hint and "ghs_" not in str(failed.value)


def test_the_default_branch_is_followed(scene: Scene) -> None:
    scene.fake.create_branch(scene.full, "trunk", scene.sha)
    scene.fake.set_default_branch(scene.full, "trunk")
    scene.fake.delete_branch(scene.full, "main")
    mirror_commit(scene.wiring, scene.repo, scene.sha)
    assert scene.wiring.git.default_branch(scene.repo_id) == "trunk"
    known = scene.wiring.db.read(lambda s: s.get(Repo, scene.repo.id))
    assert known is not None and known.default_branch == "trunk"


def test_heads_are_as_they_are_there_and_our_refs_stay(scene: Scene) -> None:
    git = scene.wiring.git
    side = scene.fake.commit(scene.full, "side", {"a": "1"}, parent=scene.sha)
    scene.fake.push_tag(scene.full, "v1", scene.sha)
    assert mirror_heads(scene.wiring, scene.repo) == {
        "refs/heads/main": scene.sha, "refs/heads/side": side, "refs/tags/v1": scene.sha,
    }  # fmt: skip
    keep_commits(git, scene.repo_id, {"brave-otter-17": side})
    scene.wiring.notes.write(scene.repo_id, {scene.sha: "a note\n"})
    scene.fake.delete_branch(scene.full, "side")
    scene.fake.delete_tag(scene.full, "v1")
    moved = scene.fake.commit(scene.full, "side/deeper", {"a": "2"}, parent=scene.sha)
    assert mirror_heads(scene.wiring, scene.repo) == {"refs/heads/main": scene.sha, "refs/heads/side/deeper": moved}
    assert scene.wiring.notes.read(scene.repo_id) == {scene.sha: "a note\n"}
    assert git.resolve(scene.repo_id, "refs/dstack/runs/brave-otter-17") == side


def test_looking_again_costs_no_call(scene: Scene) -> None:
    mirror_heads(scene.wiring, scene.repo)
    calls, before = len(scene.calls()), fetches(scene)
    mirror_heads(scene.wiring, scene.repo)
    assert len(scene.calls()) == calls and fetches(scene) == before + 1  # the list of refs
    scene.fake.expire_tokens()
    scene.fake.create_branch(scene.full, "side", scene.sha)
    assert "refs/heads/side" in mirror_heads(scene.wiring, scene.repo)


def test_refs_there_that_look_like_ours_do_not_come(scene: Scene) -> None:
    path = scene.fake.repo(scene.full).path
    for ref in ("refs/dstack/runs/a", "refs/notes/dstack", "refs/replace/" + scene.sha):
        subprocess.run(["git", "-C", path, "update-ref", ref, scene.sha], check=True, env=plain())
    mirror_heads(scene.wiring, scene.repo)
    out = subprocess.run(
        ["git", "-C", scene.wiring.git.path(scene.repo_id), "for-each-ref"],
        check=True, env=plain(), capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert out.split() == [scene.sha, "commit", "refs/heads/main"]


def test_an_empty_repository_is_no_trouble(scene: Scene) -> None:
    scene.fake.create_repo(f"acme/empty-{scene.repo.name}")
    row = Repo(
        owner="acme",
        name=f"empty-{scene.repo.name}",
        forge="github",
        installation_id=scene.repo.installation_id,
        created_at=0,
    )
    scene.wiring.db.write(lambda s: (s.add(row), s.flush()))
    assert mirror_heads(scene.wiring, row) == {}


# Pull requests


def test_the_head_of_an_own_pull_request_comes_into_the_repo(scene: Scene) -> None:
    head = scene.fake.commit(scene.full, "side", {"a": "1"}, parent=scene.sha)
    number = scene.fake.open_pull(scene.full, "side")
    pull = scene.pull(number)
    scene.fake.delete_branch(scene.full, "side")
    assert mirror_commit(scene.wiring, scene.repo, head, pull=pull) == ""
    assert scene.wiring.git.has_commit(scene.repo_id, head)


def fork_pull(scene: Scene) -> tuple[int, str]:
    fork = scene.fake.fork(scene.full, "eve")
    head = scene.fake.push(fork, "patch", {"train.py": "evil\n"}, author="eve")
    return scene.fake.open_pull(scene.full, "patch", head_repo=fork, author="eve"), head


def test_a_fork_s_objects_never_enter_the_repo(scene: Scene) -> None:
    number, head = fork_pull(scene)
    objects = mirror_commit(scene.wiring, scene.repo, head, pull=scene.pull(number))
    git = scene.wiring.git
    assert objects == fork_id(scene.repo_id, number) == f"{scene.repo_id}-pull-{number}"
    assert git.has_commit(objects, head) and not git.has_commit(scene.repo_id, head)
    assert git.merge_base(objects, scene.sha, head) == scene.sha  # what it borrows is there too
    assert read_files(git, objects, head, ["train.py"]) == {"train.py": b"evil\n"}
    calls = len(scene.calls())
    assert mirror_commit(scene.wiring, scene.repo, head, pull=scene.pull(number)) == objects
    assert len(scene.calls()) == calls + 1  # pull() alone


def test_a_fork_s_head_that_was_left_behind_is_still_the_one_asked_for(scene: Scene) -> None:
    number, head = fork_pull(scene)
    pull = scene.pull(number)
    newer = scene.fake.push(f"eve/{scene.repo.name}", "patch", {"train.py": "more\n"}, author="eve")
    scene.fake.force_push(
        f"eve/{scene.repo.name}",
        "patch",
        scene.fake.commit(f"eve/{scene.repo.name}", "x", {"b": "1"}, parent=scene.sha),
    )
    objects = mirror_commit(scene.wiring, scene.repo, head, pull=pull)
    assert scene.wiring.git.has_commit(objects, head) and newer != head


def test_a_fork_s_repository_that_lost_what_it_borrowed_is_mended(scene: Scene) -> None:
    """The base was replaced by another history, and collected here; runs of the fork's earlier head still go on."""
    old = scene.fake.commit(scene.full, "main", {"base.txt": "old"})
    number, head = fork_pull(scene)
    objects = mirror_commit(scene.wiring, scene.repo, head, pull=scene.pull(number))
    scene.fake.commit(scene.full, "main", {"base.txt": "new"}, parent="")
    mirror_heads(scene.wiring, scene.repo)
    path, fork = scene.wiring.git.path(scene.repo_id), scene.wiring.git.path(objects)
    subprocess.run(["git", "gc", "--quiet", "--prune=now"], cwd=path, env=plain(), check=True)
    assert not scene.wiring.git.has_commit(scene.repo_id, old)
    newer = scene.fake.push(f"eve/{scene.repo.name}", "patch", {"train.py": "more\n"}, author="eve")
    assert mirror_commit(scene.wiring, scene.repo, newer, pull=scene.pull(number)) == objects
    subprocess.run(
        ["git", "rev-list", "--objects", head, newer], cwd=fork, env=plain(), check=True, capture_output=True
    )


def test_a_fork_s_commit_is_read_where_the_data_folder_was_moved_to(scene: Scene, tmp_path: Path) -> None:
    number, head = fork_pull(scene)
    objects = mirror_commit(scene.wiring, scene.repo, head, pull=scene.pull(number))
    root = scene.wiring.git.root
    moved = tmp_path / "elsewhere" / "repositories"
    for repo_id in (scene.repo_id, objects):
        shutil.copytree(root / f"{repo_id}.git", moved / f"{repo_id}.git")
    (root / f"{scene.repo_id}.git").rename(tmp_path / "aside")
    try:
        there = LocalGit(moved)
        assert there.has_commit(objects, head)
        git = ["git", "rev-list", "--objects", head]
        subprocess.run(git, cwd=there.path(objects), env=plain(), check=True, capture_output=True)
    finally:
        (tmp_path / "aside").rename(root / f"{scene.repo_id}.git")


def test_an_older_fork_s_repository_is_turned_to_the_same(scene: Scene) -> None:
    number, head = fork_pull(scene)
    objects = mirror_commit(scene.wiring, scene.repo, head, pull=scene.pull(number))
    listed = scene.wiring.git.path(objects) / "objects" / "info" / "alternates"
    way = listed.read_text()
    assert way == f"../../{scene.repo_id}.git/objects\n"
    listed.write_text("/somewhere/else/objects\n")
    newer = scene.fake.push_pull(scene.full, number, {"train.py": "again\n"})
    mirror_commit(scene.wiring, scene.repo, newer, pull=scene.pull(number))
    assert listed.read_text() == way


def test_a_head_that_is_gone_costs_the_earlier_ones_nothing(scene: Scene) -> None:
    number, head = fork_pull(scene)
    objects = mirror_commit(scene.wiring, scene.repo, head, pull=scene.pull(number))
    with pytest.raises(GitFailed):
        mirror_commit(scene.wiring, scene.repo, "1" * 40, pull=scene.pull(number))
    assert scene.wiring.git.has_commit(objects, head)


def test_a_fork_that_is_gone_is_fetched_all_the_same(scene: Scene) -> None:
    number, head = fork_pull(scene)
    scene.fake.delete_repo(f"eve/{scene.repo.name}")
    objects = mirror_commit(scene.wiring, scene.repo, head, pull=scene.pull(number))
    assert scene.wiring.git.has_commit(objects, head)


# Trouble


def test_several_at_once_fetch_once(scene: Scene) -> None:
    problems: list[Exception] = []

    def act() -> None:
        try:
            mirror_commit(scene.wiring, scene.repo, scene.sha)
        except (ForgeFailed, GitFailed) as error:
            problems.append(error)

    threads = [threading.Thread(target=act) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems and len(scene.calls("access_tokens")) == 1


@pytest.mark.parametrize("how", ["503", "reset"])
def test_an_outage_is_waited_for(scene: Scene, how: str) -> None:
    with scene.fake.outage(how):
        for ask in (lambda: mirror_commit(scene.wiring, scene.repo, scene.sha), lambda: git_only(scene)):
            with pytest.raises(ForgeDown) as down:
                ask()
            assert "ghs_" not in str(down.value)
    mirror_commit(scene.wiring, scene.repo, scene.sha)


def git_only(scene: Scene) -> None:
    """The token was had before the outage began."""
    scene.wiring.git.create(scene.repo_id)
    scene.wiring.mirrors.fetch_branches(scene.repo_id, scene.address, "ghs_secret")


def test_a_token_that_is_refused_is_a_plain_failure(scene: Scene) -> None:
    scene.wiring.git.create(scene.repo_id)
    with pytest.raises(GitFailed) as failed:
        scene.wiring.mirrors.fetch_branches(scene.repo_id, scene.address, "ghs_dead")
    assert "contents: read" in failed.value.hint and "ghs_dead" not in str(failed.value)


def test_no_redirect_is_followed(scene: Scene) -> None:
    scene.fake.rename_repo(scene.full, f"{scene.repo.name}-new")
    scene.wiring.git.create(scene.repo_id)
    _, token = scene.wiring.forge.clone_address(replace(scene.place, name=f"{scene.repo.name}-new"))
    with pytest.raises(GitFailed):
        scene.wiring.mirrors.fetch_branches(scene.repo_id, scene.address, token)


@pytest.mark.parametrize(
    "address",
    [
        "http://169.254.169.254/latest",
        "file:///etc",
        "ssh://git@h/x",
        "ext::sh -c id",
        "--upload-pack=id",
        "http://h/x",
    ],
)
def test_only_the_forge_is_dialled(scene: Scene, address: str) -> None:
    scene.wiring.git.create(scene.repo_id)
    with pytest.raises(Invalid):
        scene.wiring.mirrors.fetch_branches(scene.repo_id, address, "t")


def test_an_address_that_only_begins_like_the_forge_s_is_not_its(tmp_path: Path, scene: Scene) -> None:
    scene.wiring.git.create(scene.repo_id)
    for trick in ("@evil.example/x", ".evil.example/x", "/../x"):
        with pytest.raises(Invalid):
            scene.wiring.mirrors.fetch_branches(scene.repo_id, f"{scene.fake.url}{trick}", "t")


def test_more_than_fits_is_ended(scene: Scene, fake: FakeGitHub) -> None:
    small = Mirrors(scene.wiring.git, fake.url, max_bytes=-1)
    scene.wiring.git.create(scene.repo_id)
    address, token = scene.wiring.forge.clone_address(scene.place)
    with pytest.raises(TooLarge):
        small.fetch_branches(scene.repo_id, address, token)
    assert scene.wiring.git.heads(scene.repo_id) == {}


def test_what_comes_in_is_measured_and_taken_away(tmp_path: Path) -> None:
    (tmp_path / "tmp_pack_before").write_bytes(b"x" * 5000)  # somebody else's
    watch = FetchWatch(tmp_path, 1000, 60, "https://github.com/acme/vision.git")
    watch()
    for number in range(3):
        (tmp_path / f"tmp_pack_{number}").write_bytes(b"x" * 400 * number)
    time.sleep(LOOK_S)
    with pytest.raises(TooLarge):
        watch()
    (tmp_path / "tmp_pack_2").write_bytes(b"x" * 1000)
    watch.clear_up()
    left = {path.name for path in tmp_path.iterdir()}
    assert "tmp_pack_before" in left and "tmp_pack_2" not in left


def test_a_full_disk_is_no_fault_of_the_repository(tmp_path: Path, scene: Scene) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("mounting a small filesystem needs root")
    try:
        scene.fake.commit(scene.full, "main", {"big.bin": os.urandom(3_000_000)})
        git = LocalGit(folder)
        git.create("r1")
        address, token = scene.wiring.forge.clone_address(scene.place)
        with pytest.raises(Unavailable):
            Mirrors(git, scene.fake.url).fetch_branches("r1", address, token)
        assert git.heads("r1") == {}
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_many_packs_are_made_one(scene: Scene) -> None:
    mirror_commit(scene.wiring, scene.repo, scene.sha)
    path, git = scene.wiring.git.path(scene.repo_id), scene.wiring.git
    assert git.tidy(scene.repo_id) is False
    for number in range(51):
        made = [["hash-object", "-w", "--stdin"], ["pack-objects", "-q", "objects/pack/pack"]]
        data = f"file {number}".encode()
        for argv in made:
            data = subprocess.run(
                ["git", *argv], cwd=path, env=plain(), input=data, check=True, capture_output=True
            ).stdout
    assert git.tidy(scene.repo_id) is True
    assert len(list((path / "objects/pack").glob("*.pack"))) < 5
    assert git.has_commit(scene.repo_id, scene.sha)


def test_one_that_hangs_is_ended(scene: Scene, fake: FakeGitHub) -> None:
    hasty = Mirrors(scene.wiring.git, fake.url, timeout_s=0.3)
    scene.wiring.git.create(scene.repo_id)
    address, token = scene.wiring.forge.clone_address(scene.place)
    fake.faults.hang(2, r"\.git/")
    with pytest.raises(ForgeDown):
        hasty.fetch_branches(scene.repo_id, address, token)


def test_the_token_is_in_no_argument_and_no_file(scene: Scene, fake: FakeGitHub, tmp_path: Path) -> None:
    _, token = scene.wiring.forge.clone_address(scene.place)
    scene.wiring.git.create(scene.repo_id)
    seen: list[str] = []
    fake.faults.hang(0.5, r"\.git/")
    address = scene.address
    thread = threading.Thread(
        target=scene.wiring.mirrors.fetch_branches, args=(scene.repo_id, address, token), daemon=True
    )
    thread.start()
    while thread.is_alive():
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                seen.append(path.read_bytes().decode(errors="replace"))
            except OSError:
                continue
    thread.join()
    assert any(address in line for line in seen)
    assert not [line for line in seen if token in line]
    folder = scene.wiring.git.path(scene.repo_id)
    assert not [path for path in folder.rglob("*") if path.is_file() and token.encode() in path.read_bytes()]


def test_where_the_app_may_not_act_nothing_is_fetched(scene: Scene) -> None:
    scene.repo.installation_id, scene.repo.problem = None, "the App was removed"
    with pytest.raises(NotConnected) as refused:
        mirror_commit(scene.wiring, scene.repo, scene.sha)
    assert "the App was removed" in refused.value.hint


def plain() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith("GIT_")} | {"GIT_CONFIG_GLOBAL": os.devnull}
