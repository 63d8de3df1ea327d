"""Pushes and fetches of real git clients against a real server: what arrives, what is told, what is refused."""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path

import pytest
from served_git import READER, Clone, Host, Served, wait_for

from dstack.errors import Conflict
from dstack.server.gateways.kept import drop_work, keep_commits
from dstack.server.gateways.notes_local import LocalNotes
from dstack.server.gateways.snapshots import read_files
from dstack.server.web.git_remote import GitLimits

ZERO = "0" * 40
REPO = "local-demo"


@pytest.fixture
def small(host: Host, tmp_path: Path) -> Served:
    """A server with little patience."""
    return host.serve(tmp_path / "small", GitLimits(processes=1, push_bytes=300_000, idle_s=5.0, answer_s=0.05))


def test_a_first_push_makes_the_repo_and_prints_what_it_started(served: Served, clone: Clone) -> None:
    served.door.lines = ["train brave-otter-17 queued", "http://here/runs/brave-otter-17"]
    sha = clone.commit()
    pushed = clone.push()
    assert "remote: dstack: train brave-otter-17 queued" in pushed.stderr
    assert "remote: dstack: http://here/runs/brave-otter-17" in pushed.stderr
    ((repo_id, user, (update,)),) = served.door.pushes
    assert (repo_id, user, update.old, update.new, update.ref) == (REPO, "ada", ZERO, sha, "refs/heads/main")
    assert served.repositories.heads(REPO) == {"refs/heads/main": sha}


@pytest.mark.parametrize(
    ("branches", "head"), [(["trunk"], "trunk"), (["work", "main"], "main"), (["a", "master"], "master")]
)
def test_the_first_push_sets_head(served: Served, clone: Clone, tmp_path: Path, branches: list[str], head: str) -> None:
    sha = clone.commit()
    served.repositories.create(REPO, "nothing-here")
    clone.push(*(f"HEAD:refs/heads/{branch}" for branch in branches))
    assert served.repositories.default_branch(REPO) == head
    other = tmp_path / "other"
    clone.git("clone", "--quiet", served.url(token=READER), str(other))
    assert clone.git("-C", str(other), "rev-parse", "HEAD") == sha
    clone.push("HEAD:refs/heads/zebra")
    assert served.repositories.default_branch(REPO) == head


def test_branches_tags_force_and_deletes_are_told_as_they_are(served: Served, clone: Clone) -> None:
    first = clone.commit("one")
    clone.push()
    second = clone.commit("two")
    clone.git("tag", "-a", "v1", "-m", "v1", first)
    clone.push("HEAD:refs/heads/main", "HEAD:refs/heads/side", "v1")
    clone.push("--force", f"{first}:refs/heads/main")
    clone.push(":refs/heads/side")
    told = [{(u.ref, u.old, u.new) for u in updates} for _, _, updates in served.door.pushes]
    tag = clone.git("rev-parse", "v1")
    assert told[1] == {
        ("refs/heads/main", first, second),
        ("refs/heads/side", ZERO, second),
        ("refs/tags/v1", ZERO, tag),
    }
    assert told[2] == {("refs/heads/main", second, first)}
    assert told[3] == {("refs/heads/side", second, ZERO)}
    assert served.repositories.heads(REPO) == {"refs/heads/main": first, "refs/tags/v1": first}


def test_kept_commits_are_fetched_by_id_and_shown_to_nobody(served: Served, clone: Clone, tmp_path: Path) -> None:
    clone.commit("one")
    clone.push()
    hidden = clone.commit("hidden")
    clone.push("HEAD:refs/dstack/work/key-1")
    keep_commits(served.repositories, REPO, {"brave-otter-17": hidden})
    drop_work(served.repositories, REPO, "key-1")
    LocalNotes(served.repositories).write(REPO, {hidden: "a note\n"})
    listed = clone.git("ls-remote", "origin")
    assert "refs/dstack" not in listed and "refs/notes/dstack" in listed and hidden not in listed
    for version in ("0", "2"):
        other = Clone(tmp_path / f"other{version}" / "c", served.url(token=READER))
        other.git("-c", f"protocol.version={version}", "fetch", "--quiet", "--depth=1", "origin", hidden)
        assert other.git("rev-list", "--count", "FETCH_HEAD") == "1"
        assert other.git("show", "FETCH_HEAD:train.py") == "hidden"


def test_a_large_push_streams_in_chunks(served: Served, clone: Clone, tmp_path: Path) -> None:
    clone.folder.joinpath("weights.bin").write_bytes(os.urandom(20_000_000))
    sha = clone.commit("weights")
    traced = clone.run("push", "origin", "HEAD:refs/heads/main", GIT_CURL_VERBOSE="1")
    assert "transfer-encoding: chunked" in traced.stderr.lower()
    other = tmp_path / "other"
    clone.git("clone", "--quiet", served.url(), str(other))
    assert clone.git("-C", str(other), "rev-parse", "HEAD") == sha
    assert (other / "weights.bin").stat().st_size == 20_000_000


def test_what_takes_long_is_queued_and_still_done(small: Served, tmp_path: Path) -> None:
    clone = Clone(tmp_path / "home" / "c", small.url())
    small.door.takes_s = 0.5
    small.door.lines = ["too late"]
    clone.commit()
    assert "remote: dstack: queued" in clone.push().stderr
    assert small.door.told.wait(5)


def test_a_failure_behind_the_push_does_not_undo_it(
    served: Served, clone: Clone, caplog: pytest.LogCaptureFixture
) -> None:
    served.door.error = Conflict("train.yml has problems", "run dstack lint")
    sha = clone.commit("one")
    pushed = clone.push()
    assert "dstack: train.yml has problems" in pushed.stderr and "dstack: run dstack lint" in pushed.stderr
    served.door.error = ZeroDivisionError("secret")
    clone.commit("two")
    pushed = clone.push()
    assert "stored" in pushed.stderr and "secret" not in pushed.stderr
    assert "a push was not taken up" in caplog.text
    assert clone.git("ls-remote", "origin", "refs/heads/main").startswith(clone.git("rev-parse", "HEAD"))
    assert sha


@pytest.mark.parametrize(
    ("ref", "why"),
    [
        ("refs/notes/dstack", "written by the server alone"),
        ("refs/dstack/runs/x", "hidden ref"),
        ("refs/dstack/x", "only branches"),
        ("refs/replace/1234567890123456789012345678901234567890", "only branches"),
        ("refs/pull/1/head", "only branches"),
        ("refs/heads/-x", "starts with a dash"),
        ("refs/heads/locked", "you may not push this ref"),
    ],
)
def test_refused_refs_change_nothing(served: Served, clone: Clone, ref: str, why: str) -> None:
    served.door.may_push_ref = lambda ref: not ref.endswith("locked")
    clone.commit("one")
    pushed = clone.push(f"HEAD:{ref}", check=False)
    assert pushed.returncode == 1
    assert why in pushed.stderr
    assert served.repositories.ask(REPO, ["for-each-ref"]) == b""
    assert served.door.pushes == []


def test_a_refused_ref_refuses_the_whole_push(served: Served, clone: Clone) -> None:
    clone.commit("one")
    pushed = clone.push("HEAD:refs/heads/main", "HEAD:refs/notes/dstack", check=False)
    assert pushed.returncode == 1
    assert served.repositories.heads(REPO) == {}


@pytest.mark.parametrize(
    "name", ["$(id)", "a'b\"c", ";reboot", "`id`", "שלום-🚀", "x" * 200, "&&", "a/b/c", "%2e%2e", "!x"]
)
def test_odd_branch_names_are_text(served: Served, clone: Clone, name: str) -> None:
    sha = clone.commit()
    clone.push(f"HEAD:refs/heads/{name}")
    ((_, _, (update,)),) = served.door.pushes
    assert update.branch == name
    assert served.repositories.resolve(REPO, f"refs/heads/{name}") == sha


def test_who_is_not_known_is_asked_for_a_token(served: Served, clone: Clone) -> None:
    clone.commit()
    clone.push()
    for url in (served.url(token="wrong"), served.url().replace("any:writer-token@", "")):
        refused = clone.run("-c", "credential.helper=", "ls-remote", url, check=False)
        assert refused.returncode == 128
        assert "Authentication failed" in refused.stderr or "could not read Username" in refused.stderr
    header = f"http.extraHeader=Authorization: Bearer {READER}"
    bare_url = served.url().replace("any:writer-token@", "")
    assert "refs/heads/main" in clone.git("-c", header, "ls-remote", bare_url)


def test_readers_do_not_push_and_absent_repositories_read_as_absent(served: Served, clone: Clone) -> None:
    clone.commit()
    clone.push()
    refused = clone.run("push", served.url(token=READER), "HEAD:refs/heads/x", check=False)
    assert "you may read local/demo, not push to it" in refused.stderr
    assert "403" in refused.stderr
    absent = clone.run("fetch", served.url("local/other"), check=False)
    assert "there is no repository local/other" in absent.stderr and "not found" in absent.stderr


def test_a_push_over_the_limit_says_so_and_leaves_nothing(small: Served, tmp_path: Path) -> None:
    clone = Clone(tmp_path / "home" / "c", small.url())
    clone.folder.joinpath("weights.bin").write_bytes(os.urandom(250_000))
    clone.commit()
    clone.push()
    for size in (600_000, 4_000_000):
        clone.folder.joinpath("weights.bin").write_bytes(os.urandom(size))
        clone.commit()
        pushed = clone.push(check=False)
        assert pushed.returncode == 1
        assert "pack exceeds maximum allowed size" in pushed.stderr
    assert len(small.door.pushes) == 1
    wait_for(lambda: not list(small.repositories.path(REPO).glob("objects/tmp_objdir*")))


def test_what_fsck_refuses_does_not_come_in(served: Served, clone: Clone) -> None:
    clone.commit()
    blob = clone.git("hash-object", "-w", "train.py")
    made = subprocess.run(
        ["git", "mktree"],
        cwd=clone.folder,
        input=f"100644 blob {blob}\t.git\n",
        capture_output=True,
        text=True,
        check=True,
    )
    commit = clone.git("commit-tree", made.stdout.strip(), "-m", "evil")
    pushed = clone.push(f"{commit}:refs/heads/main", check=False)
    assert pushed.returncode == 1
    assert "hasDotgit" in pushed.stderr
    assert served.repositories.heads(REPO) == {}


def test_two_pushes_at_once_both_land_or_one_is_told(served: Served, tmp_path: Path) -> None:
    clones = [Clone(tmp_path / "home" / f"c{n}", served.url()) for n in range(4)]
    for number, clone in enumerate(clones):
        clone.commit(f"from {number}")
    served.repositories.create(REPO)
    results: dict[int, subprocess.CompletedProcess[str]] = {}

    def push(number: int, ref: str) -> None:
        results[number] = clones[number].push(f"HEAD:refs/heads/{ref}", check=False)

    refs = {0: "a", 1: "b", 2: "same", 3: "same"}
    threads = [threading.Thread(target=push, args=item) for item in refs.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results[0].returncode == results[1].returncode == 0
    won = [number for number in (2, 3) if results[number].returncode == 0]
    assert len(won) == 1
    heads = served.repositories.heads(REPO)
    assert heads["refs/heads/same"] == clones[won[0]].git("rev-parse", "HEAD")
    assert len(served.door.pushes) == 3


def test_pushes_wait_for_a_slot(small: Served, tmp_path: Path) -> None:
    small.repositories.create(REPO)
    clones = [Clone(tmp_path / "home" / f"c{n}", small.url()) for n in range(3)]
    for number, clone in enumerate(clones):
        clone.commit(f"from {number}")
    argv = ["git", "push", "--quiet", "origin"]
    running = [
        subprocess.Popen([*argv, f"HEAD:refs/heads/b{n}"], cwd=clone.folder, stderr=subprocess.DEVNULL)
        for n, clone in enumerate(clones)
    ]
    assert [process.wait(20) for process in running] == [0, 0, 0]


def test_neither_the_machine_nor_the_environment_silences_the_hooks(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "machine"
    home.mkdir()
    (home / ".gitconfig").write_text(
        "[core]\n\thooksPath = /dev/null\n\tfsmonitor = /bin/false\n[http]\n\treceivepack = false\n"
        "[transfer]\n\thideRefs = refs/heads\n[receive]\n\tdenyCurrentBranch = refuse\n"
    )
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    monkeypatch.setenv("GIT_INDEX_FILE", "/nowhere/index")
    monkeypatch.setenv("GIT_OBJECT_DIRECTORY", "/nowhere/objects")
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "core.hooksPath")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "/dev/null")
    served = host.serve(tmp_path / "server")
    served.door.lines = ["heard"]
    clone = Clone(tmp_path / "home" / "c", served.url())
    sha = clone.commit()
    assert "dstack: heard" in clone.push().stderr
    assert read_files(served.repositories, REPO, sha, ["train.py"]) == {"train.py": b"change"}
