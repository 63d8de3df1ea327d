"""What the token of a stranger's job opens of the base repository: its own commit with what leads to it, no more."""

from __future__ import annotations

import os
import subprocess
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
from fork_scene import WRITER, Forks
from joined_github import REPO
from served_api import GIT_ENV, Held, WorkingCopy, unique

from dstack.git.run import git


@dataclass
class Stranger:
    """An approved job of a fork; `secret` is a commit on a branch of the base that is not the one it goes to, `work` a
    working tree that somebody shipped."""

    scene: Forks
    held: Held
    sha: str
    base: str
    secret: str
    work: str
    folder: Path

    @property
    def address(self) -> str:
        token = self.held.order["clone_token"]
        return f"{self.scene.api.url.replace('://', f'://x:{token}@')}{self.held.order['clone_path']}"

    def fetch(self, what: str, *options: str) -> tuple[bool, str]:
        """Into a repository of its own: did it work, and what git said."""
        into = self.folder / unique("w")
        git(["init", "-q", "--", str(into)], cwd=self.folder)
        done = subprocess.run(
            ["git", *options, "fetch", "-q", self.address, what],
            cwd=into, env={**os.environ, **GIT_ENV}, capture_output=True, text=True, timeout=30,
        )  # fmt: skip
        if done.returncode == 0:
            assert git(["cat-file", "-t", self.base], cwd=into).strip() == b"commit"
        return done.returncode == 0, done.stderr

    def ask(self, body: bytes, protocol: str = "version=2") -> requests.Response:
        """A request as git would send it, in whatever words."""
        token = b64encode(f"x:{self.held.order['clone_token']}".encode()).decode()
        url = f"{self.scene.api.url}{self.held.order['clone_path']}/git-upload-pack"
        headers = {"Authorization": f"Basic {token}", "Content-Type": "application/x-git-upload-pack-request"}
        return requests.post(url, body, headers=headers | ({"Git-Protocol": protocol} if protocol else {}), timeout=30)


@pytest.fixture(scope="module")
def stranger(scene: Forks, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stranger]:
    fake = scene.fake
    secret = fake.push(REPO, "embargoed", {"secret.txt": "not told yet"}, author=WRITER)
    scene.settle()
    folder = tmp_path_factory.mktemp("stranger")
    copy = WorkingCopy(scene.api, REPO, folder / "writer")
    copy.git("fetch", "-q", copy.address(), "main")
    copy.git("checkout", "-q", "FETCH_HEAD")
    work = copy.commit({"draft.txt": "not even committed"})
    copy.push("HEAD:refs/dstack/work/key-7")
    number = scene.fork_pull()
    scene.say(number, f"/dstack approve {scene.head(number)}")
    held = scene.take(scene.runs_of(number)[0])
    yield Stranger(scene, held, scene.head(number), fake.head(REPO), secret, work, folder)
    held.finish("failed", reason="exit_code", exit_code=1)


def test_its_own_commit_comes_with_all_that_led_to_it(stranger: Stranger) -> None:
    assert stranger.fetch(stranger.sha) == (True, "")
    assert stranger.fetch(f"{stranger.sha}:refs/heads/mine")[0]


@pytest.mark.parametrize("which", ["secret", "work"])
def test_a_commit_of_another_line_is_refused(stranger: Stranger, which: str) -> None:
    worked, said = stranger.fetch(getattr(stranger, which))
    assert not worked and "403" in said


@pytest.mark.parametrize("name", ["refs/heads/main", "refs/heads/embargoed", "refs/dstack/work/key-7", "HEAD"])
def test_no_ref_is_named(stranger: Stranger, name: str) -> None:
    worked, said = stranger.fetch(name)
    assert not worked and "find remote ref" in said


def test_an_older_protocol_is_refused_in_words(stranger: Stranger) -> None:
    worked, said = stranger.fetch(stranger.sha, "-c", "protocol.version=0")
    assert not worked and "403" in said


def objects_of(stranger: Stranger, path: str, commit: str) -> list[str]:
    """The commit, its tree and a file of it, as the base repository has them."""
    repo = stranger.scene.repo()
    assert repo is not None
    names = (commit, f"{commit}^{{tree}}", f"{commit}:{path}")
    ask = stranger.scene.api.wiring.git.ask
    return [ask(str(repo.id), ["rev-parse", name]).decode().strip() for name in names]


def test_no_object_is_had_by_its_id(stranger: Stranger) -> None:
    """Git itself would hand out every one of them; by the older protocol still the trees and files."""
    hidden = objects_of(stranger, "secret.txt", stranger.secret) + objects_of(stranger, "draft.txt", stranger.work)
    for sha in hidden:
        asked = b"0011command=fetch00010032want %b\n0009done\n0000" % sha.encode()
        older = b"0032want %b\n00000009done\n" % sha.encode()
        for answer in (stranger.ask(asked), stranger.ask(older), stranger.ask(older, ""), stranger.ask(asked, "")):
            assert answer.status_code in (400, 403) and b"PACK" not in answer.content
    mine = b"0011command=fetch00010032want %b\n0009done\n0000" % stranger.sha.encode()
    assert b"PACK" in stranger.ask(mine).content


def test_a_person_reads_all_of_it_as_ever(stranger: Stranger) -> None:
    copy = WorkingCopy(stranger.scene.api, REPO, stranger.folder / "reader")
    copy.git("fetch", "-q", copy.address(), stranger.secret, "main")
    assert "not told yet" in copy.git("show", f"{stranger.secret}:secret.txt")
