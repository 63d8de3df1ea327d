"""The present head runs, however often a branch or pull request went to and fro and in whatever order that is told."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import count

import pytest
from joined_github import FILE, REPO, Joined, joined
from served_api import ARunner, wait_for

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


def test_an_earlier_head_runs_again_and_the_one_between_gives_way(topic: Topic) -> None:
    second = topic.push("2")
    topic.back_to(topic.first)
    for workflow in ("check", "train"):
        before, again = topic.runs(topic.first, workflow)
        (between,) = topic.runs(second, workflow)
        assert gave_way(before)[1] == between.name and gave_way(between)[1] == again.name
        assert again.state is JobState.QUEUED and again.is_clean and again.key is not None and before.key is None
    topic.back_to(second)
    for workflow in ("check", "train"):
        assert [run.state for run in topic.runs(second, workflow)] == [JobState.STOPPED, JobState.QUEUED]
        assert gave_way(topic.runs(topic.first, workflow)[1])[1] == topic.runs(second, workflow)[1].name


def test_an_earlier_base_is_judged_again(scene: Joined, topic: Topic) -> None:
    for base in ("dev", "main"):
        scene.fake.edit_pull(REPO, topic.number, base=base)
        scene.settle()
    to_main, to_dev, again = topic.runs(topic.first)
    assert [run.base_branch for run in (to_main, to_dev, again)] == ["main", "dev", "main"]
    assert gave_way(to_main)[1] == to_dev.name and gave_way(to_dev)[1] == again.name
    assert again.state is JobState.QUEUED


def test_a_head_whose_run_goes_on_still_takes_the_place_of_the_one_between(topic: Topic, runner: ARunner) -> None:
    """Nothing is made for it; the head between gives way all the same."""
    scene = topic.scene
    first = scene.fake.push(REPO, topic.branch, {FILE: FILES[FILE].replace("{labels: [nobody]}", "{}")})
    scene.settle()
    held = {name: runner.take(topic.runs(first, name)[0].name) for name in ("check", "train")}
    for one in held.values():
        one.state("running")
    second = topic.push("2")
    assert not any(run.state.is_final for run in scene.runs(second) if run.workflow in held)
    topic.back_to(first)
    for name, one in held.items():
        assert [run.state for run in topic.runs(first, name)] == [JobState.RUNNING]
        assert gave_way(topic.runs(second, name)[0])[1] == one.run
        one.end()


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


@pytest.mark.parametrize("subject", ["Words", "Words [skip ci]"])
def test_late_news_of_a_commit_that_the_head_builds_on_keep_the_only_run(topic: Topic, subject: str) -> None:
    """The head starts nothing: were the run before it stopped for the head's sake, nothing would ever be tested."""
    scene, reads = topic.scene, IN_TURN + ", paths: ['src/**']"
    scene.fake.push(REPO, topic.branch, {FILE: "workflows:\n" + QUEUED % ("train", "push", reads)})
    scene.settle()
    scene.fake.webhooks.hold()
    changed = scene.fake.push(REPO, topic.branch, {"src/a.py": topic.branch})
    head = scene.fake.push(REPO, topic.branch, {"README.md": topic.branch}, subject)
    scene.fake.webhooks.release()
    scene.settle()
    (train,) = topic.runs(changed, "train")
    assert not train.state.is_final and topic.runs(head, "train") == []


def test_late_news_of_a_closed_pull_request_take_nobodys_place(topic: Topic) -> None:
    scene = topic.scene
    other = Topic(scene)
    scene.fake.webhooks.hold()
    second = scene.fake.push(REPO, topic.branch, {topic.branch: "2"})
    scene.fake.close_pull(REPO, topic.number)
    scene.fake.webhooks.release(Backwards())
    scene.settle()
    assert gave_way(topic.runs(second, "turns")[0])[1] == "pull request closed"
    assert not other.runs(other.first, "turns")[0].state.is_final


def told(scene: Joined, sha: str, state: str) -> None:
    wait_for(lambda: (status := scene.fake.statuses(REPO, sha).get("dstack/check")) and status.state == state)


def anyones(on: str) -> dict[str, str]:
    return {FILE: f"workflows:\n  - {{name: check, provider: bash, commands: ['true'], on: {on}}}\n"}


def test_a_pull_request_that_was_closed_says_nothing_where_another_goes_on(topic: Topic, runner: ARunner) -> None:
    scene = topic.scene
    sha = scene.fake.push(REPO, topic.branch, anyones("pull_request"))
    scene.settle()
    other = scene.fake.open_pull(REPO, topic.branch, "dev")
    scene.settle()
    scene.fake.close_pull(REPO, other)
    scene.settle()
    to_main, to_dev = topic.runs(sha)
    assert gave_way(to_dev)[1] == "pull request closed"
    runner.take(to_main.name).end()
    told(scene, sha, "success")


def test_what_gave_way_to_the_push_of_the_same_head_leaves_it_the_word(topic: Topic, runner: ARunner) -> None:
    """The news of the pull request came first, and the workflows are of one group."""
    scene, entry = topic.scene, "  - {name: %s, provider: bash, commands: ['true'], on: %s, concurrency: gpu}\n"
    names, on = ("check", "also"), "[push, pull_request]"
    scene.fake.webhooks.hold()
    files = {FILE: "workflows:\n" + "".join(entry % (name, on) for name in names)}
    sha = scene.fake.push(REPO, topic.branch, files)
    scene.fake.webhooks.release(Backwards())
    scene.settle()
    for name in names:
        pulled, pushed = topic.runs(sha, name)
        assert gave_way(pulled) and pushed.trigger is Trigger.PUSH
        runner.take(pushed.name).end()
    told(scene, sha, "success")
    runs = {f"run:{run.name}" for run in scene.runs(sha) if run.trigger is Trigger.PUSH}
    wait_for(
        lambda: (
            {check.name for check in scene.fake.checks(REPO, sha) if check.external_id in runs}
            == {f"dstack / {name}" for name in names}
        )
    )


def test_of_two_pull_requests_with_one_head_the_worse_is_told(topic: Topic, runner: ARunner) -> None:
    scene = topic.scene
    sha = scene.fake.push(REPO, topic.branch, anyones("pull_request"))
    scene.settle()
    (to_main,) = topic.runs(sha)
    runner.take(to_main.name).end("failed", reason="exit_code", exit_code=1)
    told(scene, sha, "failure")
    other = scene.fake.open_pull(REPO, topic.branch, "dev")
    scene.settle()
    runner.take(topic.runs(sha)[1].name).end()
    wait_for(lambda: [check.conclusion for check in scene.fake.checks(REPO, sha)] == ["failure", "success"])
    assert scene.fake.statuses(REPO, sha)["dstack/check"].state == "failure"
    scene.fake.close_pull(REPO, topic.number)
    scene.settle()
    told(scene, sha, "success")
    scene.fake.close_pull(REPO, other)


def test_a_push_that_goes_on_speaks_once_its_pull_request_is_merged(topic: Topic, runner: ARunner) -> None:
    scene = topic.scene
    sha = scene.fake.push(REPO, topic.branch, anyones("[push, pull_request]"))
    scene.settle()
    pushed, pulled = topic.runs(sha)
    assert pulled.adopted_id == pushed.id
    held = runner.take(pushed.name)
    held.state("running")
    scene.fake.merge_pull(REPO, topic.number)
    scene.settle()
    assert gave_way(topic.runs(sha)[1])[1] == "pull request closed"
    held.end()
    told(scene, sha, "success")
