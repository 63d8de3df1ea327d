"""What GitHub did not tell, or told strangely, is found: the runs are those of a day on which nothing went wrong."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest
from fake_github import FakeGitHub
from github_scene import connected_server, new_scene
from joined_github import REPO, Joined, joined, knows, workflows
from served_api import serve, wait_for
from sqlmodel import col, select

from dstack.server.models import Delivery
from dstack.server.timers.watch_github import GithubWatch
from dstack.server.wiring import Wiring

FILES = workflows(train="{push: {branches: [main, topic]}}", check="pull_request", asked="{comment: /asked}")


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Joined]:
    with joined(tmp_path, FILES) as scene:
        look(scene)
        yield scene


def look(scene: Joined) -> None:
    """As the timer does, some time later."""
    scene.api.clock.ahead += 200
    GithubWatch().look(scene.api.wiring)
    scene.settle()


def runs_of(scene: Joined) -> set[tuple[str, str, str]]:
    return {(run.workflow, run.sha, run.trigger.value) for run in scene.runs()}


def act(scene: Joined) -> dict[str, str]:
    """A morning's work of a team."""
    fake, shas = scene.fake, {}
    shas["first"] = fake.push(REPO, "main", {"a.txt": "1"})
    shas["second"] = fake.push(REPO, "main", {"a.txt": "2"})
    shas["topic"] = fake.push(REPO, "topic", {"b.txt": "1"})
    number = fake.open_pull(REPO, "topic", "main", "A topic", "ada")
    shas["more"] = fake.push_pull(REPO, number, {"b.txt": "2"})
    return shas


def expected(shas: dict[str, str]) -> set[tuple[str, str, str]]:
    return {
        ("train", shas["first"], "push"),
        ("train", shas["second"], "push"),
        ("train", shas["topic"], "push"),
        ("train", shas["more"], "push"),
        ("check", shas["topic"], "pull_request"),
        ("check", shas["more"], "pull_request"),
    }


def as_usual(scene: Joined) -> None:
    """Nothing goes wrong."""


def doubled(scene: Joined) -> None:
    scene.fake.webhooks.double(3)


def lost(scene: Joined) -> None:
    scene.fake.webhooks.lose(1000)


def shuffled(scene: Joined) -> None:
    scene.fake.webhooks.hold()


@pytest.mark.parametrize("trouble", [as_usual, doubled, lost, shuffled])
def test_whatever_becomes_of_webhooks_the_runs_are_the_same(scene: Joined, trouble: Callable[[Joined], None]) -> None:
    trouble(scene)
    shas = act(scene)
    if trouble is shuffled:
        scene.fake.webhooks.release(Random(7))
    scene.settle()
    look(scene)
    look(scene)
    assert runs_of(scene) == expected(shas)
    names = [(run.workflow, run.sha, run.key) for run in scene.runs()]
    assert len(names) == len(set(names)), "nothing twice"


def test_what_github_never_sent_is_found_by_heads_pulls_and_comments(scene: Joined) -> None:
    scene.fake.set_permission(REPO, "ada", "write")
    scene.fake.webhooks.drop_all()
    main = scene.fake.push(REPO, "main", {"a.txt": "1"})
    topic = scene.fake.push(REPO, "topic", {"b.txt": "1"})
    number = scene.fake.open_pull(REPO, "topic", "main", "A topic", "ada")
    look(scene)
    assert runs_of(scene) == {("train", main, "push"), ("train", topic, "push"), ("check", topic, "pull_request")}
    now = scene.api.clock.now()
    topic = scene.fake.push(REPO, "topic", {"b.txt": "2"})
    scene.fake.repo(REPO).pushed_at = now - 10
    comment = scene.fake.comment(REPO, number, "ada", "/asked", created_at=now)
    scene.fake.comment(
        REPO, number, "grace", "nice", created_at=now + 1
    )  # makes the pull request younger, not its head
    edited = scene.fake.comment(REPO, number, "ada", "hello", created_at=now)
    scene.fake.edit_comment(edited, "/asked", "mallory")
    look(scene)
    assert ("asked", topic, "comment") in runs_of(scene)
    assert len([run for run in scene.runs() if run.workflow == "asked"]) == 1, "an edited comment says nothing"
    wait_for(lambda: "rocket" in scene.fake.reactions(comment))
    scene.fake.close_pull(REPO, number)
    look(scene)
    assert not scene.pull(number).is_open


def test_what_stood_there_before_starts_nothing(tmp_path: Path) -> None:
    with joined(tmp_path, FILES, install=False) as scene:
        scene.fake.webhooks.drop_all()
        scene.fake.push(REPO, "main", {"a.txt": "1"})
        scene.fake.push(REPO, "topic", {"b.txt": "1"})
        number = scene.fake.open_pull(REPO, "topic", "main", "A topic", "ada")
        scene.fake.comment(REPO, number, "octocat", "/asked")
        scene.fake.install(scene.app, "acme")
        for _ in range(2):
            look(scene)
        assert scene.runs() == []
        sha = scene.fake.push(REPO, "main", {"a.txt": "2"})
        look(scene)
        assert runs_of(scene) == {("train", sha, "push")}


def test_a_server_made_anew_begins_where_it_was_connected(tmp_path: Path) -> None:
    """The App has been there for days, and its log is full of what another server has done."""
    with FakeGitHub(tmp_path / "github") as fake:
        app = fake.make_app("dstack")
        fake.create_repo(REPO, files=FILES)
        fake.install(app, "acme")
        fake.set_permission(REPO, "ada", "write")
        fake.webhooks.date_by(lambda: time.time() - 60)
        fake.push(REPO, "main", {"a.txt": "1"})
        fake.push(REPO, "topic", {"b.txt": "1"})
        number = fake.open_pull(REPO, "topic", "main", "A topic", "ada")
        fake.comment(REPO, number, "ada", "/asked", created_at=time.time() - 60)
        with serve(tmp_path, **knows(fake, app), github_mode="poll") as api:
            fake.webhooks.date_by(api.clock.now)
            scene = Joined(api, fake, app)
            for _ in range(2):
                look(scene)
            assert scene.runs() == []
            sha = fake.push(REPO, "main", {"a.txt": "2"})
            look(scene)
            assert runs_of(scene) == {("train", sha, "push")}


def test_a_server_that_cannot_be_reached_asks(tmp_path: Path) -> None:
    """Two GPU boxes behind a NAT: GitHub's webhooks end nowhere, and all comes in by its log."""
    with joined(tmp_path, FILES, github_mode="poll") as scene:
        scene.app.webhook_url = ""
        look(scene)
        shas = act(scene)
        look(scene)
        assert runs_of(scene) == expected(shas)
        assert not [d for d in scene.deliveries() if d.kind.startswith("found")], "the log told everything"


def test_an_outage_is_waited_out(scene: Joined) -> None:
    scene.fake.webhooks.lose(1000)
    sha = scene.fake.push(REPO, "main", {"a.txt": "1"})
    watch = GithubWatch()
    with scene.fake.outage():
        scene.api.clock.ahead += 200
        watch.look(scene.api.wiring)  # says so in the log, and rests
        before = len(scene.fake.ledger)
        watch.look(scene.api.wiring)
        assert len(scene.fake.ledger) == before, "no storm"
    scene.api.clock.ahead += 61
    watch.look(scene.api.wiring)
    scene.settle()
    assert ("train", sha, "push") in runs_of(scene)


def test_what_was_sent_while_no_server_answered_is_taken_in_soon_after_the_start(tmp_path: Path) -> None:
    """A restart takes seconds; nobody is to wait for the next look at the log, minutes later."""
    with FakeGitHub(tmp_path / "github") as fake, connected_server(fake, tmp_path / "data") as wiring:
        scene, watch, real = new_scene(fake, wiring), GithubWatch(), wiring.clock.now
        watch.look(wiring)
        for name in ("first", "second"):
            fake.push(scene.full, "main", {"a.txt": name})
        watch.look(wiring)
        assert list_deliveries(wiring) == []
        wiring.clock.now = lambda: real() + 26  # type: ignore[method-assign]
        watch.look(wiring)
        pushes = [d.payload or b"" for d in list_deliveries(wiring) if d.event == "push"]
        (first, second) = [json.loads(text)["after"] for text in pushes]
        assert (first != second, second) == (True, fake.head(scene.full))  # in their order, though of one second


def list_deliveries(wiring: Wiring) -> list[Delivery]:
    return wiring.db.read(lambda s: list(s.exec(select(Delivery).order_by(col(Delivery.id))).all()))
