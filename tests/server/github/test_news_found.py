"""What is found by looking makes no run that the news themselves would not have made; each test has a repository of its
own at one server that asks GitHub for everything."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count

import pytest
from joined_github import Joined, joined, workflows

from dstack.server.timers.watch_github import GithubWatch

NUMBERS = count(1)
FILES = workflows(train="push", check="pull_request", asked="{comment: /asked}")


@dataclass
class Polling:
    """A server that GitHub cannot reach."""

    at: Joined
    watch: GithubWatch = field(default_factory=GithubWatch)

    def look(self, times: int = 2) -> None:
        for _ in range(times):
            self.at.api.clock.ahead += 20
            self.watch.look(self.at.api.wiring)
            self.at.settle()

    def repo(self, files: dict[str, str] | None = None) -> str:
        """A new one that the server knows."""
        name = f"acme/found-{next(NUMBERS)}"
        self.at.fake.create_repo(name, files={"train.py": "1", **(files or FILES)})
        self.look()
        assert self.at.repo(name) is not None
        return name

    def runs(self, sha: str) -> list[tuple[str, str]]:
        return [(run.workflow, run.trigger.value) for run in self.at.runs(sha)]


@pytest.fixture(scope="module")
def polling(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Polling]:
    with joined(tmp_path_factory.mktemp("found"), github_mode="poll", github_write_gap_s=0.0) as scene:
        scene.app.webhook_url = ""
        yield Polling(scene)


@pytest.fixture(autouse=True)
def healed(polling: Polling) -> Iterator[None]:
    yield
    polling.at.app.webhook_url = ""
    polling.at.fake.webhooks.heal()
    polling.at.fake.faults.clear()


def test_the_trial_merge_of_a_merge_queue_is_nobody_s_push(polling: Polling) -> None:
    fake, name = polling.at.fake, polling.repo()
    topic = fake.push(name, "topic", {"a": "1"})
    number = fake.open_pull(name, "topic")
    trial = fake.commit(name, "trial", {"a": "2"}, parent=topic)
    fake.merge_group(name, "main", trial, number)
    fake.delete_branch(name, "trial")
    polling.look(3)
    assert polling.runs(topic) == [("train", "push"), ("check", "pull_request")]
    assert polling.runs(trial) == [("check", "push")], "the merge group's, which counts as clean"
    assert "train" in polling.at.not_needed(trial)


def test_a_push_that_nobody_told_is_looked_at_with_the_next_one(polling: Polling) -> None:
    train = "workflows:\n  - {name: train, provider: bash, commands: ['true'], paths: [train.py], on: push}\n"
    fake, name = polling.at.fake, polling.repo({".dstack/workflows.yaml": train})
    fake.webhooks.drop(1, "push")
    fake.push(name, "main", {"train.py": "2"})
    polling.at.app.webhook_url = f"{polling.at.api.url}/webhooks/github"
    sha = fake.push(name, "main", {"README.md": "said"})
    polling.at.settle()
    assert polling.runs(sha) == [("train", "push")]
    again = fake.push(name, "main", {"README.md": "and said again"})
    polling.at.settle()
    assert (polling.runs(again), list(polling.at.not_needed(again))) == ([], ["train"])
