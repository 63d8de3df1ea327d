"""A draft is green, since nobody can merge it; from the moment it is ready its statuses are those of its runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from joined_github import REPO, Joined, joined, workflows
from served_api import wait_for

from dstack.server.timers.watch_github import look_at_repo

CONTEXT = "dstack/check"


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Joined]:
    with joined(tmp_path, workflows(check="pull_request"), github_write_gap_s=0) as made:
        yield made


def draft(scene: Joined, *, fork: bool) -> tuple[int, str]:
    """Number and head of one that has its green status."""
    home, author = (scene.fake.fork(REPO, "stranger"), "stranger") if fork else (scene.fake.repo(REPO), "octocat")
    sha = scene.fake.push(home, "topic", {"a.py": "1"}, author=author)
    number = scene.fake.open_pull(REPO, "topic", head_repo=home, author=author, draft=True)
    scene.settle()
    told(scene, sha, "success", "not needed: the pull request is a draft")
    return number, sha


def told(scene: Joined, sha: str, state: str, begins: str) -> None:
    def is_said() -> bool:
        status = scene.fake.statuses(REPO, sha).get(CONTEXT)
        return status is not None and status.state == state and status.description.startswith(begins)

    wait_for(is_said, 5.0)


WAITS = {False: "", True: "waits for approval"}  # of its own branch, and of a fork


@pytest.mark.parametrize("fork", [False, True])
def test_its_status_is_pending_as_soon_as_it_is_ready(scene: Joined, fork: bool) -> None:
    number, sha = draft(scene, fork=fork)
    scene.fake.ready(REPO, number)
    told(scene, sha, "pending", WAITS[fork])


@pytest.mark.parametrize("fork", [False, True])
def test_news_of_it_that_were_lost_are_found(scene: Joined, fork: bool) -> None:
    number, sha = draft(scene, fork=fork)
    look(scene)
    scene.fake.webhooks.drop_all()
    scene.fake.ready(REPO, number)
    look(scene)
    told(scene, sha, "pending", WAITS[fork])
    assert len(scene.runs(sha)) == 1
    scene.fake.webhooks.heal()
    scene.fake.to_draft(REPO, number)
    scene.fake.ready(REPO, number)
    scene.settle()
    assert len(scene.runs(sha)) == 1, "it has been run before"


def look(scene: Joined) -> None:
    repo = scene.repo()
    assert repo is not None
    look_at_repo(scene.api.wiring, repo, scene.api.wiring.clock.now())
    scene.settle()
