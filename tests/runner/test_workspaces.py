"""Checkouts from a runner's mirrors, on real Git repositories served over HTTP."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from runner_server import CLONE_TOKEN, FakeServer, until
from tcp_proxy import TcpProxy

from dstack.errors import GitFailed, Invalid
from dstack_runner.sweep import remove_files_of
from dstack_runner.workspace import Workspaces, give, remove_tree


@pytest.fixture
def places(tmp_path: Path) -> Workspaces:
    return Workspaces(tmp_path / "runner")


def check_out(places: Workspaces, server: FakeServer, sha: str, name: str, branch: str = "main") -> Path:
    mirror = places.mirror("local/demo", True)
    places.fetch(mirror, server.url + "/git/local/demo.git", CLONE_TOKEN, sha, branch)
    checkout = places.attempt_folder(name) / "work"
    checkout.mkdir()
    places.fill(checkout, mirror, sha)
    return checkout


def git(*words: str, cwd: Path) -> str:
    return subprocess.run(["git", *words], cwd=cwd, check=True, capture_output=True, text=True).stdout.strip()


def test_a_checkout_is_its_own_clean_repository(places: Workspaces, server: FakeServer) -> None:
    first = server.commit({"a": "1", "run.sh": "x"})
    second = server.commit({"a": "2", "b/c": "3"})
    checkout = check_out(places, server, second, "one")
    assert (checkout / "a").read_text() == "2" and not (checkout / "run.sh").exists()
    assert git("rev-parse", "HEAD", cwd=checkout) == second
    assert git("status", "--porcelain", cwd=checkout) == ""
    assert git("log", "--format=%H", cwd=checkout).split() == [second, first]  # with its history
    older = check_out(places, server, first, "two")
    assert os.access(older / "run.sh", os.X_OK)


def test_a_commit_is_fetched_once(places: Workspaces, server: FakeServer) -> None:
    sha = server.commit({"a": "1"})
    mirror = places.mirror("local/demo", True)
    url = server.url + "/git/local/demo.git"
    assert places.fetch(mirror, url, CLONE_TOKEN, sha, "main") is True
    server.stop()
    assert places.fetch(mirror, url, "no token", sha, "other") is False


def test_no_credential_is_left_anywhere(places: Workspaces, server: FakeServer, tmp_path: Path) -> None:
    check_out(places, server, server.commit({"a": "1"}), "one")
    found = subprocess.run(["grep", "-rl", "-e", CLONE_TOKEN, "-e", "Basic", tmp_path / "runner"], capture_output=True)
    assert found.stdout == b""


def test_a_wrong_token_is_an_error_and_asks_nobody(places: Workspaces, server: FakeServer) -> None:
    sha = server.commit({"a": "1"})
    with pytest.raises(GitFailed, match=r"could not read Username|Authentication failed"):
        places.fetch(places.mirror("local/demo", True), server.url + "/git/local/demo.git", "wrong", sha, "main")


@pytest.mark.parametrize("sha", ["HEAD", "main", "a" * 39, "A" * 40, "-" * 40, "--upload-pack=x"])
def test_only_full_ids_are_fetched(places: Workspaces, sha: str) -> None:
    with pytest.raises(Invalid):
        places.fetch(places.mirror("r", True), "http://127.0.0.1:1/x", "t", sha, "main")


def test_trust_has_mirrors_of_its_own(places: Workspaces) -> None:
    assert places.mirror("o/n", True) != places.mirror("o/n", False)
    assert places.mirror("o/n", True).name.isascii() and ".." not in str(places.mirror("../../x", True))


def test_filters_and_hooks_of_a_commit_do_not_run(places: Workspaces, server: FakeServer, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    files = {
        ".gitattributes": "* filter=evil\n",
        "a": "x",
        "hooks/post-checkout": f"#!/bin/sh\ntouch {mark}\n",
        ".gitmodules": '[submodule "x"]\n\tpath = x\n\turl = ext::sh -c id\n',
    }
    checkout = check_out(places, server, server.commit(files), "one")
    assert (checkout / "a").read_text() == "x" and not mark.exists()


def test_what_a_job_does_to_its_repository_stays_there(places: Workspaces, server: FakeServer, tmp_path: Path) -> None:
    sha = server.commit({"a": "1"})
    checkout = check_out(places, server, sha, "one")
    mark = tmp_path / "ran"
    git("config", "core.fsmonitor", f"touch {mark}; false", cwd=checkout)
    (checkout / ".git" / "hooks").mkdir()
    (checkout / ".git" / "hooks" / "post-checkout").write_text(f"#!/bin/sh\ntouch {mark}\n")
    (checkout / ".git" / "hooks" / "post-checkout").chmod(0o755)
    places.discard("one")
    other = check_out(places, server, sha, "two")
    assert git("status", "--porcelain", cwd=other) == "" and not mark.exists()


def test_many_checkouts_at_once(places: Workspaces, server: FakeServer) -> None:
    shas = [server.commit({"a": str(n)}) for n in range(6)]
    wrong: list[str] = []

    def one(number: int) -> None:
        checkout = check_out(places, server, shas[number % 6], f"n{number}")
        if (checkout / "a").read_text() != str(number % 6):
            wrong.append(checkout.name)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert sum(1 for n in range(24) if (places._attempts / f"n{n}" / "work" / "a").exists()) == 24


def test_discarded_folders_go_when_told(places: Workspaces) -> None:
    for name in "ab":
        folder = places.attempt_folder(name)
        closed = folder / "closed"
        closed.mkdir()
        (closed / "f").touch()
        closed.chmod(0)
        places.discard(name)
    places.discard("never-there")
    assert places.trash_size() == 2
    assert places.empty_trash(lambda: False) == 0
    assert places.empty_trash(lambda: True) == 2
    assert places.trash_size() == 0


def test_giving_and_removing_follow_no_link(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "f").touch()
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "link").symlink_to(outside)
    (inner / "file").symlink_to(outside / "f")
    give(inner, 61000, 61000)
    assert (inner / "link").lstat().st_uid == 61000
    assert outside.stat().st_uid == (outside / "f").stat().st_uid == os.getuid()
    remove_tree(inner)
    assert (outside / "f").exists() and not inner.exists()


def test_a_runner_without_root_deletes_what_is_closed(tmp_path: Path) -> None:
    tree = tmp_path / "open" / "tree"
    (tree / "a" / "b").mkdir(parents=True)
    (tree / "a" / "b" / "f").touch()
    (tree / "a" / "link").symlink_to("/")
    tmp_path.chmod(0o755)
    code = """
import os, pathlib, sys
from dstack_runner.workspace import give, remove_tree
tree = pathlib.Path(sys.argv[1])
for folder in ("/a/b", "/a", ""):
    os.chmod(str(tree) + folder, 0)
if os.getuid() == 0:
    os.chdir(tree.parent)
    give(tree.parent, 65534, 65534)
    os.setuid(65534)
    tree = pathlib.Path("tree")
remove_tree(tree)
"""
    subprocess.run([sys.executable, "-c", code, str(tree)], check=True)
    assert not tree.exists() and Path("/etc").is_dir()


def make_deep(root: Path, depth: int) -> None:
    """Folders in one another, deeper than any path may be long."""
    root.mkdir()
    here = os.open(root, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=here)
        inner = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)


def test_a_folder_of_any_depth_is_deleted(places: Workspaces, tmp_path: Path) -> None:
    make_deep(places.attempt_folder("a1") / "work", 3000)
    make_deep(tmp_path / "left", 3000)
    places.discard("a1")
    assert places.empty_trash(lambda: True) == 1
    assert places.trash_size() == 0
    assert remove_files_of(os.getuid(), [tmp_path]) > 0
    assert not (tmp_path / "left").exists()


def test_half_a_connection_does_not_hold_a_fetch(places: Workspaces, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dstack_runner.argv.STALLED_S", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/git/local/demo.git"
        with pytest.raises(GitFailed, match="too slow"):
            places.fetch(places.mirror("local/demo", True), url, CLONE_TOKEN, "a" * 40, "main")


def test_a_mirror_of_many_fetches_is_packed_and_loses_nothing(
    places: Workspaces, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror = places.mirror("local/demo", True)
    shas = [server.commit({"a": str(number)}, branch=f"b{number}") for number in range(4)]
    for sha in shas:  # each takes the ref of the one before
        places.fetch(mirror, f"{server.url}/git/local/demo.git", CLONE_TOKEN, sha, "main")
    assert places.pack_mirrors(lambda: True) == 0
    monkeypatch.setattr("dstack_runner.workspace._UNTIDY", 5)
    assert places.pack_mirrors(lambda: False) == 0
    assert places.pack_mirrors(lambda: True) == 1
    assert not list(mirror.glob("objects/??/*")) and len(list(mirror.glob("objects/pack/*.pack"))) == 1
    again = Workspaces(mirror.parent.parent)  # remembers no commit
    assert not any(again.fetch(mirror, "http://127.0.0.1:1/", CLONE_TOKEN, sha, "main") for sha in shas)


class Asked(Exception):
    """What a check raises when the attempt must end."""


@pytest.fixture
def slow(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[TcpProxy, list[int]]]:
    """A way to the server on which bytes move all the time, but few; and how many came through so far."""
    monkeypatch.setattr("tcp_proxy.CHUNK", 2048)
    come: list[int] = []
    proxy = TcpProxy(
        ("127.0.0.1", int(server.url.rpartition(":")[2])),
        lambda number, way, data: come.append(len(data)) if way == "down" else None,
    ).start()
    proxy.delay_s = 0.02
    yield proxy, come
    proxy.close()


def processes_with(word: str) -> list[str]:
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = file.read_bytes()
        except OSError:
            continue
        if word.encode() in line:
            found.append(line.decode(errors="replace"))
    return found


def test_a_fetch_that_moves_is_ended_at_once(
    places: Workspaces, server: FakeServer, slow: tuple[TcpProxy, list[int]]
) -> None:
    proxy, come = slow
    sha = server.commit({"big": os.urandom(4_000_000)})
    mirror = places.mirror("local/demo", True)
    url = f"{proxy.url}/git/local/demo.git"
    asked, told = threading.Event(), {}

    def check() -> None:
        if asked.is_set():
            raise Asked

    def fetch(name: str) -> None:
        try:
            places.fetch(mirror, url, CLONE_TOKEN, sha, "main", check)
        except Asked as error:
            told[name] = error

    threads = [threading.Thread(target=fetch, args=(name,)) for name in ("fetches", "waits for it")]
    for thread in threads:
        thread.start()
    until(lambda: sum(come) > 50_000, what="the pack is on its way")
    assert processes_with(proxy.url)
    began = time.monotonic()
    asked.set()
    for thread in threads:
        thread.join(10)
    assert time.monotonic() - began < 2 and sorted(told) == ["fetches", "waits for it"]
    until(lambda: not processes_with(proxy.url), 2, "git and its helpers end")
    checkout = check_out(places, server, sha, "later")  # half a commit is not taken for a whole one
    assert (checkout / "big").stat().st_size == 4_000_000


def test_a_fetch_ends_after_its_hour(
    places: Workspaces, server: FakeServer, slow: tuple[TcpProxy, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dstack_runner.workspace.FETCH_LIMIT_S", 0.5)
    sha = server.commit({"big": os.urandom(4_000_000)})
    with pytest.raises(GitFailed, match="not done within"):
        places.fetch(places.mirror("r", True), f"{slow[0].url}/git/local/demo.git", CLONE_TOKEN, sha, "main")
