"""What is found by looking makes no run that the news themselves would not have made; each test has a repository of its
own at one server that asks GitHub for everything."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import count

import pytest
from fake_github.state import Repo
from joined_github import Joined, joined, workflows
from served_api import wait_for
from sqlmodel import Session

from dstack.server.models.delivery import DeliveryState
from dstack.server.services.file_found import FOUND_PULL
from dstack.server.services.settle_delivery import settle_delivery
from dstack.server.store.deliveries import delivery_by_guid
from dstack.server.timers.watch_github import GithubWatch
from dstack.server.transitions.deliveries import receive_found
from dstack.server.web.github_overview import forge_overview
from dstack.wire.states import JobState

NUMBERS = count(1)
FILES = workflows(train="push", check="pull_request", asked="{comment: /asked}")


@dataclass
class Polling:
    """A server that GitHub cannot reach."""

    at: Joined
    watch: GithubWatch = field(default_factory=GithubWatch)
    made: list[Repo] = field(default_factory=list)

    def look(self, times: int = 2) -> None:
        for _ in range(times):
            self.at.api.clock.ahead += 20
            self.watch.look(self.at.api.wiring)
            self.at.settle()

    def repo(self, files: dict[str, str] | None = None) -> str:
        """A new one that the server knows."""
        name = f"acme/found-{next(NUMBERS)}"
        self.made.append(self.at.fake.create_repo(name, files={"train.py": "1", **(files or FILES)}))
        self.look()
        assert self.at.repo(name) is not None
        return name

    def told(self) -> None:
        """GitHub can reach it after all, to the end of the test."""
        self.at.app.webhook_url = f"{self.at.api.url}/webhooks/github"

    def trouble(self, name: str) -> tuple[str, str]:
        """What the page and the doctor say of a repository."""
        shown = self.at.api.wiring.db.read(partial(forge_overview, github_url=self.at.fake.url)).repos
        findings = self.at.api.ok("POST", "/api/v1/github/doctor", json={})["findings"]
        return (
            next(repo.problem for repo in shown if repo.name == name),
            next((one["said"] for one in findings if one["check"] == f"repository {name}"), ""),
        )

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
    for repo in polling.made:  # one more to look at for all that follow
        polling.at.fake.delete_repo(repo)
    polling.made.clear()


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
    polling.told()
    sha = fake.push(name, "main", {"README.md": "said"})
    polling.at.settle()
    assert polling.runs(sha) == [("train", "push")]
    again = fake.push(name, "main", {"README.md": "and said again"})
    polling.at.settle()
    assert (polling.runs(again), list(polling.at.not_needed(again))) == ([], ["train"])


def test_a_pull_request_that_is_gone_without_a_trace_is_closed_and_holds_up_no_other(polling: Polling) -> None:
    fake, name = polling.at.fake, polling.repo()
    spam = fake.push(name, "spam", {"a": "1"})
    number = fake.open_pull(name, "spam", author="spammer")
    polling.look()
    assert ("check", "pull_request") in polling.runs(spam)
    fake.webhooks.drop_all()
    fake.erase_issue(name, number)
    good = fake.push(name, "good", {"b": "1"})
    fake.open_pull(name, "good")
    polling.look()
    assert polling.runs(good) == [("train", "push"), ("check", "pull_request")]
    (check,) = [run for run in polling.at.runs(spam) if run.workflow == "check"]
    assert (check.state, check.message) == (JobState.STOPPED, "pull request closed")


def test_an_installation_at_its_limit_holds_up_no_other(polling: Polling) -> None:
    fake, name = polling.at.fake, polling.repo()
    polling.made.append(fake.create_repo("globex/net", files=FILES))
    fake.install(polling.at.app, "globex")
    polling.look()
    fake.faults.primary_limit("/repos/acme/", reset_in_s=3000, count=None)
    fake.webhooks.drop_all()
    here, there = fake.push(name, "main", {"a": "1"}), fake.push("globex/net", "main", {"a": "1"})
    polling.look()
    polling.look()
    assert (polling.runs(here), polling.runs(there)) == ([], [("train", "push")])
    asked = [path for _, method, path in fake.faults.played if method == "GET"]
    assert len(asked) <= 2, "it rests, at this watch and at that of the server's own timer"
    fake.faults.clear()
    polling.at.api.clock.ahead += 3000
    polling.look()
    assert polling.runs(here) == [("train", "push")]


def test_a_repository_that_cannot_be_read_holds_up_no_other_and_says_so(polling: Polling) -> None:
    """Its folder is a file: no git at all can be asked there."""
    fake, broken, other = polling.at.fake, polling.repo(), polling.repo()
    folder = polling.at.api.wiring.git.path(str(polling.at.api.repo_id(broken)))
    polling.at.api.clock.ahead += 1800
    polling.look()  # also at which repositories there are
    away = folder.rename(folder.with_suffix(".away"))
    folder.write_text("")
    fake.webhooks.drop_all()
    sha = fake.push(other, "main", {"a": "1"})
    polling.look()
    assert polling.runs(sha) == [("train", "push")]
    asked = len(fake.ledger)
    polling.look(1)
    assert len([call for call in fake.ledger[asked:] if broken in call.path]) <= 2, "it rests"
    assert polling.trouble(broken) == ("", "")
    polling.at.api.clock.ahead += 60
    polling.look(1)
    page, found = polling.trouble(broken)
    assert "could not be looked at" in page and "could not be looked at" in found, "twice in a row"
    asked = len(fake.ledger)
    for seconds in (120, 240, 480):
        polling.at.api.clock.ahead += seconds
        polling.look(1)
    syncs = [call for call in fake.ledger[asked:] if call.path == "/app/installations"]
    assert len(syncs) <= 1, "that of the server's own timer: the App's list says nothing of a fault of ours"
    folder.unlink()
    away.rename(folder)
    polling.at.api.clock.ahead += 3600
    polling.look(1)
    assert polling.trouble(broken) == ("", "")


def test_a_damaged_namesake_of_ours_holds_up_nobody(polling: Polling) -> None:
    api, fake = polling.at.api, polling.at.fake
    copy = api.working_copy("acme/broken")
    copy.commit({"a": "1"})
    copy.push()
    (api.wiring.git.path(str(api.repo_id("acme/broken"))) / "HEAD").unlink()
    fake.create_repo("acme/broken", files={"x": "1"})
    name = f"acme/found-{next(NUMBERS)}"
    polling.made.append(fake.create_repo(name, files=FILES))
    api.clock.ahead += 1800
    polling.look()
    assert (polling.at.repo(name) is not None, polling.at.repo("acme/broken")) == (True, None)


def test_a_pull_request_whose_handling_failed_is_handled_when_it_can_be(polling: Polling) -> None:
    fake, name = polling.at.fake, polling.repo()
    fake.push(name, "topic", {"a": "1"})
    polling.look()
    polling.told()
    fake.faults.error(404, "access_tokens", count=None)
    number = fake.open_pull(name, "topic")
    sha = fake.push_pull(name, number, {"a": "2"})
    fake.flush()
    wait_for(lambda: polling.at.last("pull_request.synchronize").state is DeliveryState.FAILED)
    fake.faults.clear()
    polling.look()
    assert polling.runs(sha) == [("train", "push"), ("check", "pull_request")]
    found = [one.id for one in polling.at.deliveries() if one.kind == FOUND_PULL]
    polling.look()
    assert [one.id for one in polling.at.deliveries() if one.kind == FOUND_PULL] == found, "handled is handled"


def test_what_was_found_and_failed_rests_before_it_is_tried_again(polling: Polling) -> None:
    api, name = polling.at.api, "found-again"
    found = partial(receive_found, kind="nobody's", guid=name, repo_id=None, sender="ada")
    failed = partial(settle_delivery, state=DeliveryState.FAILED, reason="broken")
    for now, state in ((1000.0, None), (1030.0, DeliveryState.FAILED), (1063.0, None), (1120.0, DeliveryState.FAILED)):

        def unit(session: Session, now: float = now, state: DeliveryState | None = state) -> None:
            found(session, body={"author": f"ada at {now}"}, now=now)
            row = delivery_by_guid(session, name)
            assert row is not None and row.state is (state or DeliveryState.RECEIVED)
            if state is None:
                failed(session, row.id, now=now + 3)

        api.wiring.db.write(unit)


@pytest.mark.parametrize("told", [True, False])
def test_a_rename_that_nobody_told_of_loses_nothing(polling: Polling, told: bool) -> None:
    """The account was renamed: GitHub sends no event of its repositories."""
    fake, name = polling.at.fake, polling.repo()
    fake.webhooks.drop_all()
    new = fake.rename_repo(name, f"{name.partition('/')[2]}-renamed").full_name
    if told:
        fake.webhooks.heal()
        polling.told()
    sha = fake.push(new, "topic", {"a": "1"})
    fake.open_pull(new, "topic")
    if told:
        polling.at.settle()
    else:
        polling.at.api.clock.ahead += 60
        polling.look(3)
    assert set(polling.runs(sha)) == {("train", "push"), ("check", "pull_request")}
    repo = polling.at.repo(new)
    assert repo is not None and repo.full_name == new


def test_to_look_where_nothing_happened_costs_nothing(polling: Polling) -> None:
    """304 is not counted against the hour's calls."""
    fake, clock, name = polling.at.fake, polling.at.api.clock, polling.repo()
    fake.push(name, "topic", {"a": "1"})
    number = fake.open_pull(name, "topic")
    fake.comment(name, number, "octocat", "well done", created_at=clock.now() + 10)
    clock.ahead += (600 - clock.now()) % 3600  # none of this goes over the full hour
    polling.look(3)
    wait_for(lambda: fake.comments(name, number)[-1].author.login == "dstack[bot]")
    polling.look(4)
    asked = len(fake.ledger)
    polling.look(4)
    calls = [call for call in fake.ledger[asked:] if name in call.path and call.method == "GET"]
    assert len({call.path for call in calls}) == 2 and {call.status for call in calls} == {304}
