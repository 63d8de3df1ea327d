"""Commits made to mislead a runner: submodules, filters, LFS pointers, redirects. A checkout writes files, no more."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from runner_server import CLONE_TOKEN, FakeServer

from dstack.errors import GitFailed
from dstack_runner.workspace import Workspaces, give


@pytest.fixture
def places(tmp_path: Path) -> Workspaces:
    return Workspaces(tmp_path / "runner")


class Elsewhere:
    """A host that keeps every call it gets, and redirects it when told to."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.location = ""
        this = self

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                this.calls.append((self.path, self.headers.get("Authorization", "")))
                self.send_response(302 if this.location else 404)
                if this.location:
                    self.send_header("Location", this.location + self.path)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_POST = do_GET

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    host = Elsewhere()
    yield host
    host.close()


@pytest.fixture
def mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Left by any filter, hook or monitor that the machine's own git configuration names."""
    home, mark = tmp_path / "home", tmp_path / "ran"
    (home / "hooks").mkdir(parents=True)
    program = home / "program"
    program.write_text(f"#!/bin/sh\necho $0 $@ >> '{mark}'\n")
    program.chmod(0o755)
    (home / "hooks" / "post-checkout").symlink_to(program)
    (home / ".gitconfig").write_text(
        f"[core]\n\thooksPath = {home}/hooks\n\tfsmonitor = {program}\n"
        f'[filter "lfs"]\n\tsmudge = {program}\n\tprocess = {program}\n\trequired = true\n'
        "[submodule]\n\trecurse = true\n[fetch]\n\trecurseSubmodules = true\n[protocol]\n\tallow = always\n"
    )
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("GIT_CONFIG_GLOBAL", raising=False)
    return mark


def check_out(places: Workspaces, server: FakeServer, sha: str, name: str = "one") -> Path:
    mirror = places.mirror("local/demo", True)
    places.fetch(mirror, f"{server.url}/git/local/demo.git", CLONE_TOKEN, sha, "main")
    checkout = places.attempt_folder(name) / "work"
    checkout.mkdir()
    places.fill(checkout, mirror, sha)
    return checkout


def commit_with_links(server: FakeServer, files: dict[str, str], links: list[str]) -> str:
    """A commit with files and, where submodules would be, links to a commit that nobody has."""
    server.commit({"first": "1"})
    head = b"commit refs/heads/main\ncommitter T <t@example.org> 1 +0000\ndata 1\nx\nfrom refs/heads/main^0\n"
    stream = bytearray(head)
    for name, text in files.items():
        stream += b"M 100644 inline %s\ndata %d\n%s\n" % (name.encode(), len(text.encode()), text.encode())
    for link in links:
        quoted = '"' + link.replace("\r", "\\r") + '"'
        stream += f"M 160000 {'1' * 40} {quoted}\n".encode()
    subprocess.run(["git", "fast-import", "--quiet", "--force"], input=bytes(stream), cwd=server.repo, check=True)
    done = subprocess.run(["git", "rev-parse", "main"], cwd=server.repo, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_submodules_are_empty_folders_and_nothing_is_fetched(
    places: Workspaces, server: FakeServer, elsewhere: Elsewhere, mark: Path
) -> None:
    """Whatever their names, paths and addresses say: they are not read at all."""
    modules = (
        f'[submodule "../../hooks"]\n\tpath = sub\n\turl = {elsewhere.url}/o/n.git\n\tupdate = !touch {mark}\n'
        f'[submodule "x"]\n\tpath = -x\n\turl = ext::touch {mark}\n'
        f'[submodule "y"]\n\tpath = "sub\r"\n\turl = --upload-pack=touch {mark}\n'
    )
    links = ["sub", "-x", "sub\r"]
    checkout = check_out(places, server, commit_with_links(server, {".gitmodules": modules}, links))
    assert (checkout / ".gitmodules").read_text().count('[submodule "') == 3
    assert all((checkout / link).is_dir() and not any((checkout / link).iterdir()) for link in links)
    assert not (checkout / ".git" / "modules").exists() and not (checkout / ".git" / "hooks").exists()
    assert elsewhere.calls == [] and not mark.exists()


def test_large_files_stay_pointers_and_their_store_is_not_asked(
    places: Workspaces, server: FakeServer, elsewhere: Elsewhere, mark: Path
) -> None:
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'a' * 64}\nsize 12345\n"
    files = {
        ".gitattributes": "*.bin filter=lfs diff=lfs merge=lfs -text\n",
        ".lfsconfig": f"[lfs]\n\turl = {elsewhere.url}/lfs\n",
        "weights.bin": pointer,
    }
    checkout = check_out(places, server, server.commit(files))
    assert (checkout / "weights.bin").read_text() == pointer
    assert elsewhere.calls == [] and not mark.exists()


def test_plain_git_on_this_machine_would_have_run_it(server: FakeServer, mark: Path, tmp_path: Path) -> None:
    """The tests above could tell."""
    server.commit({".gitattributes": "* filter=lfs\n", "a": "x"})
    subprocess.run(["git", "clone", "-q", server.repo, tmp_path / "plain"], capture_output=True, timeout=60)
    assert mark.exists()


def test_a_redirect_elsewhere_is_not_followed(places: Workspaces, server: FakeServer, elsewhere: Elsewhere) -> None:
    """A server that sends the runner to another host does not get its credential there."""
    sha, other = server.commit({"a": "1"}), Elsewhere()
    try:
        elsewhere.location = other.url
        with pytest.raises(GitFailed) as caught:
            url = f"{elsewhere.url}/git/local/demo.git"
            places.fetch(places.mirror("local/demo", True), url, CLONE_TOKEN, sha, "main")
        assert elsewhere.calls and other.calls == []
        assert CLONE_TOKEN not in caught.value.message
    finally:
        other.close()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a checkout to a user of its own")
def test_a_checkout_that_belongs_to_its_jobs_user_is_left_alone_by_the_runners_git(
    places: Workspaces, server: FakeServer, mark: Path
) -> None:
    """The job's user may write anything into its .git: the runner reads its own mirror; the next checkout is clean."""
    sha = server.commit({"a": "1"})
    checkout = check_out(places, server, sha)
    with (checkout / ".git" / "config").open("a") as config:
        config.write(f"[core]\n\tfsmonitor = touch {mark}\n[include]\n\tpath = more\n")
    (checkout / ".git" / "more").write_text(f'[filter "lfs"]\n\tsmudge = touch {mark}\n')
    give(checkout, 61_234, 61_234)
    (checkout / ".git" / "objects" / "info" / "alternates").write_text("/etc\n")
    other = check_out(places, server, sha, "two")
    assert (other / "a").read_text() == "1" and other.stat().st_uid == os.getuid()
    assert not mark.exists()
