"""Repositories from strangers: what stands in their .git runs nothing, and a push's token goes to its server alone."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from test_worktree import files_of, make_work, run_git, tree_of

from dstack.cli.repository import open_repository
from dstack.cli.worktree import pack_working_tree, push_shipment
from dstack.errors import GitFailed

TOKEN = "dst_a-token-of-somebody"


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return make_work(tmp_path / "work", monkeypatch)


def arm(work: Path, mark: Path) -> None:
    """Everything in a .git that git runs by itself: each of them leaves the mark."""
    program = work / ".git" / "program"
    program.write_text(f"#!/bin/sh\necho $0 $@ >> '{mark}'\nexit 1\n")
    program.chmod(0o755)
    hooks = work / ".git" / "hooks"
    hooks.mkdir(exist_ok=True)
    for name in ("pre-commit", "post-index-change", "reference-transaction", "post-commit", "pre-push"):
        (hooks / name).unlink(missing_ok=True)
        (hooks / name).symlink_to(program)
    (work / ".git" / "more").write_text(
        f"""[core]
        fsmonitor = {program}
        sshCommand = {program}
        askPass = {program}
        [filter "evil"]
        clean = {program}
        smudge = {program}
        required = true
        [diff "evil"]
        textconv = {program}
        command = {program}
        [log]
        showSignature = true
        [gpg]
        program = {program}
        [commit]
        gpgSign = true
        [credential]
        helper = !{program}
        """
    )
    run_git(work, "config", "include.path", "more")
    (work / ".git" / "info").mkdir(exist_ok=True)
    (work / ".git" / "info" / "attributes").write_text("* filter=evil diff=evil\n")


def sign_head(work: Path) -> None:
    """HEAD becomes a commit with a signature, for which git would ask the program that checks it."""
    raw = run_git(work, "cat-file", "commit", "HEAD")
    head, _, message = raw.partition(b"\n\n")
    signed = work.parent / "signed"
    signed.write_bytes(
        head + b"\ngpgsig -----BEGIN PGP SIGNATURE-----\n \n x\n -----END PGP SIGNATURE-----\n\n" + message
    )
    sha = run_git(work, "hash-object", "-t", "commit", "-w", str(signed)).decode().strip()
    run_git(work, "reset", "-q", "--soft", sha)


def test_what_a_repository_is_armed_with_does_not_run(work: Path, tmp_path: Path) -> None:
    sign_head(work)
    mark = tmp_path / "ran"
    arm(work, mark)
    (work / "changed.txt").write_text("after\n")
    (work / "new.txt").write_text("new\n")
    with pack_working_tree(open_repository(work)) as shipment:
        assert not mark.exists(), mark.read_text()
        assert shipment.parent
        run_git(work, "config", "--unset", "include.path")  # or the test's own git would run it
        assert tree_of(work, shipment) == files_of(work)
    assert not mark.exists()


def test_the_mark_is_left_by_what_git_runs_by_itself(work: Path, tmp_path: Path) -> None:
    """The test above could tell: plain git does run what the repository is armed with."""
    mark = tmp_path / "ran"
    arm(work, mark)
    (work / "changed.txt").write_text("after\n")
    run_git(work, "status", check=False)
    run_git(work, "add", "changed.txt", check=False)
    assert mark.exists()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files to somebody else")
def test_a_repository_of_somebody_else_is_refused_and_says_how(work: Path, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    arm(work, mark)
    for path in [work, *work.rglob("*")]:
        os.chown(path, 61_234, 61_234, follow_symlinks=False)
    with pytest.raises(GitFailed, match="dubious ownership") as caught:
        open_repository(work)
    assert "safe.directory" in caught.value.message and not mark.exists()


@contextmanager
def answering(status: int, location: str = "") -> Iterator[tuple[str, list[str]]]:
    """A host that answers every call alike; its address, and what it was told as authorization."""
    heard: list[str] = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            heard.append(self.headers.get("Authorization", ""))
            self.send_response(status)
            if location:
                self.send_header("Location", location + self.path)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", heard
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_push_that_is_redirected_elsewhere_is_not_sent_there(work: Path, status: int) -> None:
    (work / "changed.txt").write_text("after\n")
    with answering(404) as (other, heard), answering(status, other) as (url, asked):
        repository = open_repository(work)
        with pack_working_tree(repository) as shipment, pytest.raises(Exception) as caught:
            push_shipment(repository, shipment, f"{url}/git/local/demo.git", TOKEN)
    assert asked and heard == []
    assert TOKEN not in str(caught.value)


def test_a_rewritten_address_does_not_get_the_token(work: Path) -> None:
    """`insteadOf` of a repository leads git elsewhere: the token belongs to the address it was given for."""
    (work / "changed.txt").write_text("after\n")
    with answering(404) as (other, heard), answering(404) as (url, _):
        run_git(work, "config", f"url.{other}/.insteadOf", f"{url}/")
        repository = open_repository(work)
        with pack_working_tree(repository) as shipment, pytest.raises(Exception):  # noqa: B017 - whatever it says
            push_shipment(repository, shipment, f"{url}/git/local/demo.git", TOKEN)
    assert heard and set(heard) == {""}
