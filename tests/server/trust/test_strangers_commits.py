"""Where the commits of forks lie, how long, and what notes and pages say of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fork_scene import WRITER, Forks, forks
from joined_github import REPO
from served_api import wait_for
from sqlmodel import select

from dstack.server.gateways.forks import forks_of
from dstack.server.models import OutboxMark, Upload
from dstack.server.services.prune import prune
from dstack.server.services.tidy_repos import tidy_repos
from dstack.server.store.outbox import NOTES
from dstack.wire.api import PruneRequest

DAY = 86400.0


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Forks]:
    """Of its own: the clock is moved."""
    with forks(tmp_path) as scene:
        yield scene


def ended(scene: Forks, number: int) -> None:
    """The first run of the pull request is approved, stores something and succeeds, the second fails."""
    scene.say(number, f"/dstack approve {scene.head(number)}")
    train, evaluate = scene.runs_of(number)
    held = scene.take(train)
    held.save("model", {"model/w": b"w"})
    assert held.finish().status_code == 204
    assert scene.take(evaluate).finish("failed", reason="exit_code", exit_code=1).status_code == 204


def test_no_note_says_anything_of_a_commit_that_is_not_ours(own: Forks) -> None:
    main = own.fake.push(REPO, "main", {"train.py": "print('main')\n"})
    number = own.fork_pull()
    ended(own, number)
    own.api.ok("POST", f"/api/v1/runs/{own.runs(main)[0].name}/stop", json={})
    repo, wiring = own.repo(), own.api.wiring
    marks = select(OutboxMark).where(OutboxMark.kind == NOTES)
    wait_for(lambda: not wiring.db.read(lambda s: s.exec(marks).first()))
    assert set(wiring.notes.read(str(repo.id))) == {main}
    assert wiring.notes.read(f"{repo.id}-pull-{number}") == {}


def test_a_forks_commits_go_with_its_runs(own: Forks) -> None:
    closed, still_open, fresh = own.fork_pull(), own.fork_pull(), own.fork_pull()
    for number in (closed, still_open):
        ended(own, number)
    for number in (closed, fresh):
        own.fake.close_pull(REPO, number)
    own.settle()
    repo, wiring = own.repo(), own.api.wiring
    sha, repo_id = own.head(closed), str(repo.id)
    tidy_repos(wiring)
    assert set(forks_of(wiring.git, repo_id)) == {closed, still_open, fresh}
    wiring.git.ask(f"{repo_id}-pull-{closed}", ["update-ref", "-d", f"refs/pull/{closed}/head"])
    wiring.git.ask(f"{repo_id}-pull-{closed}", ["gc", "--quiet", "--prune=now"])
    assert wiring.git.has_commit(f"{repo_id}-pull-{closed}", sha)  # its run holds it
    assert wiring.db.read(lambda s: s.exec(select(Upload)).all())
    own.api.clock.ahead += 40 * DAY
    assert prune(wiring, PruneRequest(days=30, dry_run=False)).runs == 6
    assert not wiring.db.read(lambda s: s.exec(select(Upload)).all())
    assert set(forks_of(wiring.git, repo_id)) == {closed, still_open, fresh}
    tidy_repos(wiring)
    assert set(forks_of(wiring.git, repo_id)) == {still_open}  # it may get runs yet
    assert wiring.git.exists(repo_id)


def test_a_commit_that_came_in_a_moment_ago_is_left_for_its_runs(own: Forks) -> None:
    number = own.fork_pull()
    own.fake.close_pull(REPO, number)
    own.settle()
    own.api.clock.ahead += 40 * DAY
    prune(own.api.wiring, PruneRequest(days=30, dry_run=False))
    own.api.clock.ahead = 0
    tidy_repos(own.api.wiring)
    assert list(forks_of(own.api.wiring.git, str(own.repo().id))) == [number]


def test_a_badge_is_of_the_branch_itself(scene: Forks) -> None:
    """A fork may call its branch as we do ours."""
    from dstack.server.store.page_queries import newest_run

    number = scene.fork_pull("frank")
    branch = scene.runs_of(number)[0].branch
    repo = scene.repo()
    assert scene.api.wiring.db.read(lambda s: newest_run(s, repo.id or 0, "train", branch)) is None
    sha = scene.fake.commit(REPO, branch, {"train.py": "print()\n"}, "Ours", WRITER, parent=scene.fake.head(REPO))
    scene.fake.force_push(REPO, f"{branch}-2", sha, WRITER)
    scene.settle()
    found = scene.api.wiring.db.read(lambda s: newest_run(s, repo.id or 0, "train", f"{branch}-2"))
    assert found is not None and found.trusted
