"""A repository that is damaged is told, and the others get their turn."""

from __future__ import annotations

import logging

import pytest
from server_clock import FakeClock

from dstack.git.run import git
from dstack.server.models import Repo
from dstack.server.services.reconcile_heads import reconcile_heads
from dstack.server.services.tidy_repos import tidy_repos
from dstack.server.wiring import Wiring

GIT_ENV = {f"GIT_{role}_{what}": "a@b" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


@pytest.fixture
def repos(wiring: Wiring, clock: FakeClock) -> None:
    """`o/1` is damaged, `o/2` has a commit on its branch and many loose objects."""
    for number in ("1", "2"):
        wiring.db.write(lambda s, n=number: s.add(Repo(owner="o", name=n, created_at=clock.now())))
        wiring.git.create(number)
    (wiring.git.path("1") / "config").write_text("[broken")
    path = wiring.git.path("2")
    tree = git(["hash-object", "-t", "tree", "-w", "--stdin"], cwd=path, stdin=None).decode().strip()
    sha = git(["commit-tree", "-m", "x", tree], cwd=path, env=GIT_ENV).decode().strip()
    git(["update-ref", "refs/heads/main", sha], cwd=path)


@pytest.mark.usefixtures("repos")
def test_a_damaged_repository_does_not_hide_lost_pushes_of_others(
    wiring: Wiring, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert reconcile_heads(wiring) == 1
    assert "o/1 is not compared" in caplog.text


@pytest.mark.usefixtures("repos")
def test_a_damaged_repository_does_not_keep_others_untidy(
    wiring: Wiring, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dstack.server.gateways.local_git._TIDY_OVER", 1)
    with caplog.at_level(logging.WARNING):
        assert tidy_repos(wiring) == 1
    assert "o/1 is not tidied" in caplog.text
