"""Clients that vanish, stall or speak plain HTTP to the Git remote: nothing half done, nothing left running."""

from __future__ import annotations

import base64
import contextlib
import gzip
import http.client
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from served_git import READER, WRITER, Clone, Door, Host, Served, wait_for

from dstack.errors import Unavailable
from dstack.server.gateways.hooks import write_hooks
from dstack.server.gateways.local_git import LocalGit
from dstack.server.web.git_remote import GitLimits

REPO = "local-demo"
PUSH = "/git/local/demo.git/git-receive-pack"


@pytest.fixture
def hasty(host: Host, tmp_path: Path) -> Served:
    return host.serve(tmp_path / "hasty", GitLimits(idle_s=0.3))


def git_processes() -> list[psutil.Process]:
    """What git this test process runs now, as child or grandchild."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if "git" in process.name() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.NoSuchProcess:
            pass
    return found


def push_body(clone: Clone, sha: str, ref: str = "refs/heads/main") -> bytes:
    """The body of a push that makes `ref`, as a git client would send it."""
    command = f"{'0' * 40} {sha} {ref}\0report-status side-band-64k agent=test\n".encode()
    argv = ["git", "pack-objects", "--revs", "--stdout", "--quiet"]
    pack = subprocess.run(argv, cwd=clone.folder, input=f"{sha}\n".encode(), capture_output=True, check=True).stdout
    return b"%04x%s0000%s" % (len(command) + 4, command, pack)


def open_push(served: Served) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", served.port))
    connection.sendall(
        f"POST {PUSH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {WRITER}\r\n"
        "Content-Type: application/x-git-receive-pack-request\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    )
    return connection


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def big_commit(clone: Clone) -> str:
    clone.folder.joinpath("weights.bin").write_bytes(os.urandom(3_000_000))
    return clone.commit("weights")


def half_received(served: Served) -> list[Path]:
    return list(served.repositories.path(REPO).glob("objects/tmp_objdir*"))


def test_a_client_killed_while_it_sends_leaves_nothing_half_done(served: Served, clone: Clone) -> None:
    served.repositories.create(REPO)
    sha = big_commit(clone)
    body = push_body(clone, sha)
    connection = open_push(served)
    connection.sendall(chunk(body[: len(body) // 2]))
    wait_for(lambda: half_received(served))
    connection.close()
    wait_for(lambda: not git_processes())
    assert half_received(served) == []
    assert served.repositories.heads(REPO) == {}
    assert not served.repositories.has_commit(REPO, sha)
    assert served.door.pushes == []
    clone.push()
    assert served.repositories.heads(REPO) == {"refs/heads/main": sha}


def test_a_client_that_leaves_after_sending_has_pushed(served: Served, clone: Clone) -> None:
    served.repositories.create(REPO)
    served.door.takes_s = 0.3
    sha = big_commit(clone)
    connection = open_push(served)
    connection.sendall(chunk(push_body(clone, sha)) + chunk(b""))
    wait_for(lambda: served.door.pushes)
    connection.close()
    assert served.door.told.wait(10)
    assert served.repositories.heads(REPO) == {"refs/heads/main": sha}
    wait_for(lambda: not git_processes())


def test_a_server_that_stops_ends_its_pushes(clone: Clone, tmp_path: Path) -> None:
    host = Host()
    served = host.serve(tmp_path / "stopping")
    served.repositories.create(REPO)
    body = push_body(clone, big_commit(clone))
    with open_push(served) as connection:
        connection.sendall(chunk(body[: len(body) // 2]))
        wait_for(lambda: half_received(served))
        host.stop()
    assert not host.thread.is_alive()
    assert git_processes() == []
    assert served.repositories.heads(REPO) == {}


def test_a_server_killed_in_the_middle_of_a_push_has_changed_nothing(clone: Clone, host: Host, tmp_path: Path) -> None:
    root = tmp_path / "killed"
    repositories = LocalGit(root / "repositories")
    repositories.create(REPO)
    argv = [sys.executable, str(Path(__file__).with_name("served_git.py")), str(root)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        served = Served(Door(repositories), None, int(server.stdout.readline()))
        sha = big_commit(clone)
        body = push_body(clone, sha)
        with open_push(served) as connection:
            connection.sendall(chunk(body[: len(body) // 2]))
            wait_for(lambda: half_received(served))
            started = psutil.Process(server.pid).children(recursive=True)
            server.kill()
    wait_for(lambda: not any(process.is_running() for process in started))
    assert repositories.heads(REPO) == {}
    again = host.serve(root)
    clone.run("push", again.url(), "HEAD:refs/heads/main")
    assert repositories.heads(REPO) == {"refs/heads/main": sha}
    for litter in half_received(served):
        for path in (*litter.rglob("*"), litter):
            os.utime(path, (0, 0))
    repositories.tidy(REPO, always=True)
    assert half_received(served) == []


def test_hooks_that_could_not_run_are_found_at_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(Unavailable, match="runs no programs"):
        write_hooks(tmp_path)


def test_a_client_that_leaves_a_fetch_ends_it(served: Served, clone: Clone) -> None:
    big_commit(clone)
    clone.push()
    url = f"http://x:{READER}@127.0.0.1:{served.port}/git/local/demo.git"
    fetch = subprocess.Popen(
        ["git", "clone", "--quiet", url, str(clone.folder.parent / "other")],
        env={**os.environ, "GIT_TERMINAL_PROMPT": "0"},
        start_new_session=True,
    )
    os.killpg(fetch.pid, 9)
    fetch.wait()
    wait_for(lambda: not git_processes())


def test_a_stalled_push_is_ended(hasty: Served, clone: Clone) -> None:
    hasty.repositories.create(REPO)
    body = push_body(clone, big_commit(clone))
    with open_push(hasty) as connection:
        connection.sendall(chunk(body[:1_000_000]))
        connection.settimeout(10)
        assert connection.recv(65536).startswith(b"HTTP/1.1 ")
    wait_for(lambda: not git_processes())
    assert half_received(hasty) == []
    assert hasty.repositories.heads(REPO) == {}


@dataclass
class Answered:
    status: int
    headers: Mapping[str, str]
    body: bytes


def ask(served: Served, method: str, path: str, body: bytes = b"", **headers: str) -> Answered:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=10)
    with contextlib.closing(connection):
        connection.request(method, path, body or None, {key.replace("_", "-"): value for key, value in headers.items()})
        answer = connection.getresponse()
        return Answered(answer.status, dict(answer.headers), answer.read())


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def test_a_compressed_request_is_understood(served: Served, clone: Clone) -> None:
    sha = clone.commit()
    clone.push()
    lines = [b"command=ls-refs\n", b"agent=test\n"]
    body = b"".join(b"%04x%s" % (len(line) + 4, line) for line in lines) + b"00010009peel\n0000"
    answer = ask(
        served,
        "POST",
        "/git/local/demo.git/git-upload-pack",
        gzip.compress(body),
        Authorization=basic("any", READER),
        Content_Type="application/x-git-upload-pack-request",
        Content_Encoding="gzip",
        Git_Protocol="version=2",
    )
    assert answer.status == 200
    assert f"{sha} refs/heads/main".encode() in answer.body


@pytest.mark.parametrize("token", ["", "wrong", "writer-token "])
def test_401_asks_for_basic(served: Served, token: str) -> None:
    headers = {"Authorization": basic("any", token)} if token else {}
    answer = ask(served, "GET", "/git/local/demo.git/info/refs?service=git-upload-pack", **headers)
    assert answer.status == 401
    assert answer.headers["www-authenticate"].startswith("Basic ")
    assert b"unknown token" in answer.body


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/git/local/demo.git/HEAD"),
        ("GET", "/git/local/demo.git/info/refs"),
        ("GET", "/git/local/demo.git/info/refs?service=git-upload-archive"),
        ("GET", "/git/local/demo.git/objects/info/packs"),
        ("POST", "/git/local/demo.git/info/refs?service=git-upload-pack"),
        ("GET", "/git/local/demo.git/git-upload-pack"),
        ("GET", "/git/../../etc/passwd/info/refs?service=git-upload-pack"),
        ("GET", "/git/local/%2e%2e/info/refs?service=git-upload-pack"),
        ("GET", "/git/local/..%2f..%2fx.git/info/refs?service=git-upload-pack"),
        ("GET", "/git/local/demo.git;.css/info/refs?service=git-upload-pack"),
        ("GET", "/git//local/demo.git/info/refs?service=git-upload-pack"),
        ("PUT", "/git/local/demo.git/git-receive-pack"),
        ("GET", "/git/-x/demo.git/info/refs?service=git-upload-pack"),
    ],
)
def test_other_addresses_are_absent(served: Served, method: str, path: str) -> None:
    served.repositories.create(REPO)
    answer = ask(served, method, path, Authorization=basic("any", WRITER))
    assert answer.status == 404, answer.body


def test_a_wrong_content_type_is_refused_by_git(served: Served) -> None:
    served.repositories.create(REPO)
    answer = ask(served, "POST", PUSH, b"0000", Authorization=basic("any", WRITER), Content_Type="text/plain")
    assert answer.status == 415
    wait_for(lambda: not git_processes())
