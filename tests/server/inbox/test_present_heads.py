"""The present head runs, however often a branch or pull request went to and fro and in whatever order that is told."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import count

import pytest
from joined_github import FILE, REPO, Joined, joined
from served_api import ARunner

from dstack.server.models import Run
from dstack.server.models.delivery import DeliveryState
from dstack.wire.states import JobState, Reason, Trigger

QUEUED = "  - {name: %s, provider: bash, commands: ['true'], resources: {labels: [nobody]}, on: %s%s}\n"
IN_TURN = ", concurrency: 'of ${{ branch }}'"
FILES = {
    FILE: "workflows:\n"
    + QUEUED % ("check", "pull_request", "")
    + QUEUED % ("train", "push", IN_TURN)
    + QUEUED % ("turns", "pull_request", ", concurrency: one")
}
_NUMBERS = count(1)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Joined]:
    with joined(tmp_path_factory.mktemp("heads"), FILES, github_write_gap_s=0) as scene:
        scene.fake.push(REPO, "dev", {"d": "1"})
        scene.fake.set_permission(REPO, "wendy", "write")
        yield scene


@pytest.fixture(scope="module")
def runner(scene: Joined) -> ARunner:
    return scene.api.runner()


class Topic:
    """A branch of its own with its pull request, at its first commit."""

    def __init__(self, scene: Joined) -> None:
        self.scene, self.branch = scene, f"topic-{next(_NUMBERS)}"
        self.first = self.push("1")
        self.number: int = scene.fake.open_pull(REPO, self.branch)
        scene.settle()

    def push(self, text: str) -> str:
        sha: str = self.scene.fake.push(REPO, self.branch, {self.branch: text})
        self.scene.settle()
        return sha

    def back_to(self, sha: str) -> None:
        self.scene.fake.force_push(REPO, self.branch, sha)
        self.scene.settle()

    def runs(self, sha: str, workflow: str = "check") -> list[Run]:
        return [run for run in self.scene.runs(sha) if run.workflow == workflow and run.branch == self.branch]


@pytest.fixture
def topic(scene: Joined) -> Topic:
    return Topic(scene)


def gave_way(run: Run) -> tuple[Run, str]:
    assert (run.state, run.reason) == (JobState.STOPPED, Reason.SUPERSEDED_BY)
    return run, run.message


@pytest.mark.parametrize("workflow", ["check", "train"])
def test_an_earlier_head_runs_again_and_the_one_between_gives_way(topic: Topic, workflow: str) -> None:
    second = topic.push("2")
    (run,) = topic.runs(second, workflow)
    assert [gave_way(one)[1] for one in topic.runs(topic.first, workflow)] == [run.name]
    topic.back_to(topic.first)
    stopped, again = topic.runs(topic.first, workflow)
    assert again.state is JobState.QUEUED and again.is_clean and again.key is not None and stopped.key is None
    assert gave_way(topic.runs(second, workflow)[0])[1] == again.name
    topic.back_to(second)
    assert [one.state for one in topic.runs(second, workflow)] == [JobState.STOPPED, JobState.QUEUED]
    assert gave_way(topic.runs(topic.first, workflow)[1])[1] == topic.runs(second, workflow)[1].name


def test_an_earlier_base_is_judged_again(scene: Joined, topic: Topic) -> None:
    for base in ("dev", "main"):
        scene.fake.edit_pull(REPO, topic.number, base=base)
        scene.settle()
    to_main, to_dev, again = topic.runs(topic.first)
    assert [run.base_branch for run in (to_main, to_dev, again)] == ["main", "dev", "main"]
    assert gave_way(to_main)[1] == to_dev.name and gave_way(to_dev)[1] == again.name
    assert again.state is JobState.QUEUED


@pytest.mark.parametrize("workflow", ["check", "train"])
def test_a_head_whose_run_goes_on_still_takes_the_place_of_the_one_between(
    topic: Topic, runner: ARunner, workflow: str
) -> None:
    """Nothing is made for it; the head between gives way all the same."""
    scene = topic.scene
    first = scene.fake.push(REPO, topic.branch, {FILE: FILES[FILE].replace("{labels: [nobody]}", "{}")})
    scene.settle()
    (run,) = topic.runs(first, workflow)
    held = runner.take(run.name)
    held.state("running")
    second = topic.push("2")
    assert not topic.runs(second, workflow)[0].state.is_final
    topic.back_to(first)
    assert [one.state for one in topic.runs(first, workflow)] == [JobState.RUNNING]
    assert gave_way(topic.runs(second, workflow)[0])[1] == run.name
    held.end()


def test_a_head_that_starts_nothing_stops_what_waits_at_the_one_before(topic: Topic) -> None:
    scene = topic.scene
    sha = scene.fake.push(REPO, topic.branch, {topic.branch: "2"}, "Words only [skip ci]")
    scene.settle()
    assert gave_way(topic.runs(topic.first)[0])[1] == f"the head {sha[:7]}"


def test_what_gave_way_to_another_pull_request_is_not_started_over_by_news_told_twice(topic: Topic) -> None:
    scene = topic.scene
    other = Topic(scene)
    (mine,) = topic.runs(topic.first, "turns")
    assert gave_way(mine)[1] == other.runs(other.first, "turns")[0].name
    opened = [one for one in scene.fake.webhooks.log if one.event == "pull_request"]
    for one in opened[-2:]:
        scene.fake.send_raw("pull_request", one.payload)
    scene.settle()
    assert len(topic.runs(topic.first, "turns")) == len(other.runs(other.first, "turns")) == 1


def test_what_gave_way_to_another_pull_request_is_tried_again_when_asked(topic: Topic) -> None:
    scene = topic.scene
    Topic(scene)
    gave_way(topic.runs(topic.first, "turns")[0])
    scene.fake.comment(REPO, topic.number, "wendy", "/dstack retry", created_at=scene.fake.clock() + 5)
    scene.settle()
    assert [run.state for run in topic.runs(topic.first, "turns")] == [JobState.STOPPED, JobState.WAITING]


class Backwards(random.Random):
    def shuffle(self, x: list[object]) -> None:  # type: ignore[override]
        x.reverse()


def test_news_that_come_late_take_nobodys_place(topic: Topic) -> None:
    """Also not in a concurrency group, where the run that was made last goes before."""
    scene = topic.scene
    scene.fake.webhooks.hold()
    shas = [topic.scene.fake.push(REPO, topic.branch, {topic.branch: text}) for text in "23"]
    scene.fake.webhooks.release(Backwards())
    scene.settle()
    for workflow in ("check", "train", "turns"):
        (newest,) = topic.runs(shas[1], workflow)
        assert newest.state in (JobState.QUEUED, JobState.WAITING), workflow
        assert gave_way(topic.runs(shas[0], workflow)[0])[1] == newest.name
    reconciled = [row for row in scene.deliveries() if row.kind == "push"]
    assert scene.api.wiring.git.heads(str(scene.repo().id))[f"refs/heads/{topic.branch}"] == shas[1]  # type: ignore[union-attr]
    assert reconciled == [] and scene.last("push").state is DeliveryState.PROCESSED
    assert topic.runs(shas[1], "train")[0].trigger is Trigger.PUSH
