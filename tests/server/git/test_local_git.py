"""The server's own repositories, on real git in a temporary folder."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from dstack.errors import GitFailed, Invalid, NotFound
from dstack.git import notes
from dstack.git.files import MAX_FILE_BYTES
from dstack.git.pushes import RefUpdate
from dstack.server.gateways.kept import drop_commits, drop_work, keep_commits, work_refs
from dstack.server.gateways.local_git import LocalGit
from dstack.server.gateways.notes_local import LocalNotes
from dstack.server.gateways.snapshots import commit_info, read_files, take_snapshot

REPO = "r1"
ZERO = "0" * 40


class Bench:
    """A LocalGit with one repository, and a working copy that commits straight into it."""

    def __init__(self, root: Path) -> None:
        self.git = LocalGit(root / "repositories")
        self.notes = LocalNotes(self.git)
        self.git.create(REPO)
        self.work = root / "work"
        self.work.mkdir()
        self.sh("init", "--quiet", "--initial-branch=main")

    def sh(self, *args: str, stdin: bytes = b"") -> str:
        clean = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
        facts = {f"GIT_{who}_{what}": "ada" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        env = {**clean, **facts, "GIT_CONFIG_GLOBAL": os.devnull}
        done = subprocess.run(["git", *args], cwd=self.work, env=env, input=stdin, capture_output=True, check=True)
        return done.stdout.decode().strip()

    def commit(self, message: str = "change", branch: str = "main") -> str:
        self.sh("add", "--all")
        self.sh("commit", "--quiet", "--allow-empty", "-m", message)
        self.sh("push", "--quiet", "--force", str(self.git.path(REPO)), f"HEAD:refs/heads/{branch}")
        return self.sh("rev-parse", "HEAD")

    def write(self, path: str, text: str | bytes) -> None:
        file = self.work / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode() if isinstance(text, str) else text)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


CONFIG = ".dstack/workflows.yaml"


def test_create_is_whole_and_repeatable(bench: Bench) -> None:
    sha = bench.commit()
    threads = [threading.Thread(target=bench.git.create, args=("r2",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bench.git.exists("r2") and not bench.git.exists("r3")
    bench.git.create(REPO)
    assert bench.git.heads(REPO) == {"refs/heads/main": sha}
    assert sorted(path.name for path in bench.git.root.iterdir()) == ["r1.git", "r2.git"]
    bench.git.remove("r2")
    bench.git.remove("r2")
    assert not bench.git.exists("r2")


@pytest.mark.parametrize("repo_id", ["", "..", "a/b", "-x", "a.b", "x" * 65, "a\n"])
def test_a_repo_id_is_never_a_path(bench: Bench, repo_id: str) -> None:
    with pytest.raises(Invalid):
        bench.git.path(repo_id)


def test_absent_repositories_and_commits_are_not_found(bench: Bench) -> None:
    questions: list[Callable[[], object]] = [
        lambda: bench.git.heads("nope"),
        lambda: commit_info(bench.git, REPO, "1" * 40),
        lambda: bench.git.resolve(REPO, "nope"),
        lambda: bench.notes.read("nope"),
    ]
    for question in questions:
        with pytest.raises(NotFound):
            question()
    assert bench.git.has_commit(REPO, "1" * 40) is False


def test_a_snapshot_has_the_commit_and_its_files(bench: Bench) -> None:
    bench.write(CONFIG, "workflows: []\n")
    bench.write(".dstack/variables.yaml", b"\xff\x00bytes")
    bench.write("top.txt", "top")
    first = bench.commit("first")
    sha = bench.commit("Über: second\n\nbody\n")
    found = take_snapshot(
        bench.git, REPO, sha, [CONFIG, ".dstack/variables.yaml", ".dstack/providers.yaml", "top.txt", "no"]
    )
    assert found.files == {
        CONFIG: b"workflows: []\n",
        ".dstack/variables.yaml": b"\xff\x00bytes",
        "top.txt": b"top",
    }
    commit = found.commit
    assert (commit.sha, commit.parents, commit.author, commit.author_email) == (sha, (first,), "ada", "ada")
    assert commit.subject == "Über: second"
    assert commit.message == "Über: second\n\nbody\n"
    assert commit.tree == bench.sh("rev-parse", "HEAD^{tree}")
    assert commit.committed_at == int(bench.sh("log", "-1", "--format=%ct"))


def test_a_commit_without_the_folder_has_no_files(bench: Bench) -> None:
    bench.write("train.py", "x")
    assert read_files(bench.git, REPO, bench.commit(), [CONFIG]) == {}


def odd_file(bench: Bench, kind: str) -> str:
    if kind == "link":
        bench.write("secret", "canary")
        bench.write(".dstack/x", "")
        (bench.work / CONFIG).symlink_to("../secret")
    elif kind == "linked folder":
        bench.write("real/workflows.yaml", "canary")
        (bench.work / ".dstack").symlink_to("real")
    elif kind == "folder":
        bench.write(CONFIG + "/x", "canary")
    elif kind == "file as folder":
        bench.write(".dstack", "canary")
    elif kind in ("submodule", "submodule folder"):
        path = CONFIG if kind == "submodule" else ".dstack"
        bench.sh("update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},{path}")
        tree = bench.sh("write-tree")
        sha = bench.sh("commit-tree", tree, "-m", "x")
        bench.sh("push", "--quiet", str(bench.git.path(REPO)), f"{sha}:refs/heads/main")
        return sha
    elif kind == "large":
        bench.write(CONFIG, b"canary" + b"x" * MAX_FILE_BYTES)
    elif kind == "huge":
        bench.write(CONFIG, b"canary" + b"x" * 17 * MAX_FILE_BYTES)
    return bench.commit()


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("link", "is a symbolic link"),
        ("linked folder", ".dstack at .* is a symbolic link"),
        ("folder", "is a folder"),
        ("file as folder", ".dstack at .* is a file"),
        ("submodule", "is a submodule"),
        ("submodule folder", ".dstack at .* is a submodule"),
        ("large", "1048576 is the limit"),
        ("huge", "1048576 is the limit"),
    ],
)
def test_configuration_that_is_no_plain_file_is_refused(bench: Bench, kind: str, why: str) -> None:
    sha = odd_file(bench, kind)
    with pytest.raises(Invalid, match=why) as refused:
        read_files(bench.git, REPO, sha, [CONFIG, ".dstack/variables.yaml"])
    assert "canary" not in str(refused.value)


def test_changed_paths(bench: Bench) -> None:
    bench.write("a", "1")
    bench.write("b", "1")
    first = bench.commit()
    bench.write("a", "2")
    (bench.work / "b").rename(bench.work / "c ü\nd")
    second = bench.commit()
    assert bench.git.changed_paths(REPO, first, second) == ("a", "b", "c ü\nd")
    assert bench.git.changed_paths(REPO, first, first) == ()
    for before, after in ((ZERO, second), (first, ZERO), ("1" * 40, second)):
        assert bench.git.changed_paths(REPO, before, after) is None


def test_more_changes_than_can_be_listed_are_unknown(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dstack.server.gateways.local_git.MAX_CHANGED_PATHS", 2)
    first = bench.commit()
    for name in "abc":
        bench.write(name, "x")
    assert bench.git.changed_paths(REPO, first, bench.commit()) is None


def test_ancestry(bench: Bench) -> None:
    base = bench.commit("base")
    left = bench.commit("left")
    bench.sh("checkout", "--quiet", "--detach", base)
    right = bench.commit("right", "right")
    assert bench.git.merge_base(REPO, base, left) == base
    assert bench.git.merge_base(REPO, left, right) == base
    assert bench.git.merge_base(REPO, left, "1" * 40) is None


def test_resolve(bench: Bench) -> None:
    sha = bench.commit()
    bench.sh("tag", "-a", "v1", "-m", "v1")
    bench.sh("push", "--quiet", str(bench.git.path(REPO)), "v1")
    for rev in ("main", "v1", "refs/heads/main", "HEAD", sha, sha[:10]):
        assert bench.git.resolve(REPO, rev) == sha
    for rev in ("--all", "-x", "main^", ":/change", "main\nHEAD", "a..b"):
        with pytest.raises(Invalid):
            bench.git.resolve(REPO, rev)


def test_kept_commits_outlive_their_branch(bench: Bench) -> None:
    bench.commit("base")
    kept, lost = bench.commit("kept", "one"), bench.commit("lost", "two")
    keep_commits(bench.git, REPO, {"brave-otter-17": kept, "calm-fox-1": lost})
    assert "refs/dstack/runs/brave-otter-17" not in bench.git.heads(REPO)
    drop_commits(bench.git, REPO, ["calm-fox-1", "never-kept"])
    for branch in ("main", "one", "two"):
        bench.git.ask(REPO, ["update-ref", "-d", f"refs/heads/{branch}"])
    bench.git.ask(REPO, ["gc", "--quiet", "--prune=now"])
    assert bench.git.has_commit(REPO, kept)
    assert not bench.git.has_commit(REPO, lost)
    with pytest.raises(GitFailed):
        keep_commits(bench.git, REPO, {"x": lost})
    for name in ("../x", "a/b", "x\0y", "-x"):
        with pytest.raises(Invalid):
            keep_commits(bench.git, REPO, {name: kept})


def test_work_refs_come_and_go(bench: Bench) -> None:
    sha = bench.commit()
    bench.sh("push", "--quiet", str(bench.git.path(REPO)), "HEAD:refs/dstack/work/key-1")
    assert work_refs(bench.git, REPO) == {"key-1": sha}
    drop_work(bench.git, REPO, "key-1")
    drop_work(bench.git, REPO, "key-1")
    assert work_refs(bench.git, REPO) == {}


def test_tidy_collects_only_when_there_is_much(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    sha = bench.commit()
    assert bench.git.tidy(REPO) is False
    monkeypatch.setattr("dstack.server.gateways.local_git._TIDY_OVER", 1)
    assert bench.git.tidy(REPO) is True
    assert (bench.git.path(REPO) / "packed-refs").exists()
    assert bench.git.heads(REPO) == {"refs/heads/main": sha}


def test_adopt_head_counts_packed_refs(bench: Bench) -> None:
    sha = bench.commit()
    bench.git.ask(REPO, ["pack-refs", "--all"])
    assert bench.git.adopt_head(REPO, [RefUpdate(ZERO, sha, "refs/heads/other")]) is None
    assert bench.git.adopt_head(REPO, [RefUpdate(ZERO, sha, "refs/tags/other")]) is None
    assert bench.git.default_branch(REPO) == "main"


RUN = {
    "name": "brave-otter-17",
    "workflow": "train",
    "state": "succeeded",
    "reason": "",
    "trigger": "push",
    "variables": {"lr": "1e-3"},
    "metrics": {"accuracy": 0.97},
    "artifacts": {"checkpoint": "ab" * 32},
    "tags": ["train:latest"],
    "started_at": "2026-11-22T12:00:00+00:00",
    "finished_at": "2026-11-22T12:00:42+00:00",
    "restarted_from": None,
    "worktree": False,
}


def test_the_runs_can_be_rebuilt_from_notes_alone(bench: Bench) -> None:
    shas = [bench.commit(f"c{n}") for n in range(12)]
    runs = {sha: [{**RUN, "name": f"run-{n}-{k}"} for k in range(1 + n % 3)] for n, sha in enumerate(shas)}
    bench.notes.write(REPO, {sha: notes.render_all(some) for sha, some in runs.items()})
    runs[shas[0]].append({**RUN, "name": "restarted", "restarted_from": "run-0-0"})
    bench.notes.write(REPO, {shas[0]: notes.render_all(runs[shas[0]]), "1" * 40: "gone"})
    found = {sha: notes.parse(text) for sha, text in bench.notes.read(REPO).items()}
    assert found == runs
    assert bench.git.ask(REPO, ["rev-list", "--count", "refs/notes/dstack"]).strip() == b"2"
    bench.sh("fetch", "--quiet", str(bench.git.path(REPO)), "+refs/notes/dstack:refs/notes/dstack")
    shown = bench.sh("log", "-1", "--notes=dstack", shas[0])
    assert "train restarted succeeded in 42 s: accuracy 0.97 -> train:latest [push]" in shown


def test_notes_written_at_once_are_all_there(bench: Bench) -> None:
    shas = [bench.commit(f"c{n}") for n in range(8)]
    threads = [threading.Thread(target=bench.notes.write, args=(REPO, {sha: f"note of {sha}\n"})) for sha in shas]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bench.notes.read(REPO) == {sha: f"note of {sha}\n" for sha in shas}


def test_a_repository_without_notes_has_none(bench: Bench) -> None:
    bench.commit()
    assert bench.notes.read(REPO) == {}
    bench.notes.write(REPO, {})
    bench.notes.write(REPO, {"1" * 40: "gone"})
    assert bench.notes.read(REPO) == {}
