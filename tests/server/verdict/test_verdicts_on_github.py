"""The gate of a pull request on a GitHub that keeps state: from the webhook to the status that gates the merge."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from joined_github import FILE, REPO, Joined, joined
from served_api import ARunner, unique, wait_for

from dstack.server.decide.verdict import LETS_PASS
from dstack.server.models import Run
from dstack.server.store.runs import run_by_name

WORKFLOW = """
workflows:
  - name: train
    provider: bash
    commands: 'true'
    metrics: {{headline: accuracy}}
    gate: accuracy >= base - 0.01
    resources: {{labels: [{label}]}}
    on: {{push: {{branches: [main]}}, pull_request: {{}}}}
"""


class Gated:
    """A repository whose pushes and pull requests train on a runner that does what it is told."""

    def __init__(self, scene: Joined, runner: ARunner) -> None:
        self.scene, self.fake, self.runner = scene, scene.fake, runner

    def push(self, branch: str = "main", **files: str) -> str:
        sha: str = self.fake.push(REPO, branch, {"train.py": unique("# changed"), **files})
        self.scene.settle()
        return sha

    def run_of(self, sha: str, trigger: str) -> Run:
        def found() -> Run | None:
            return next((run for run in self.scene.runs(sha) if run.trigger.value == trigger), None)

        run: Run = wait_for(found)
        return run

    def end(self, run: Run, accuracy: float) -> None:
        self.runner.take(run.name).end(metrics={"accuracy": accuracy})

    def row(self, run: Run) -> Run:
        row = self.scene.api.wiring.db.read(lambda s: run_by_name(s, run.name))
        assert row is not None
        return row

    def until(self, run: Run, verdict: str, why: str) -> None:
        wait_for(lambda: self.row(run).verdict == verdict)
        assert self.row(run).verdict_why == why

    def base(self, run: Run) -> str | None:
        base: str | None = self.scene.api.get_run(run.name)["base_run"]
        return base

    def status(self, sha: str) -> tuple[str, str] | None:
        found = self.fake.statuses(REPO, sha).get("dstack/train")
        return (found.state, found.description) if found is not None else None

    def final_status(self, sha: str) -> tuple[str, str]:
        found: tuple[str, str] = wait_for(lambda: (now := self.status(sha)) and now[0] != "pending" and now)
        return found


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gated]:
    with joined(tmp_path_factory.mktemp("gated"), install=False, github_write_gap_s=0.0) as scene:
        runner = scene.api.runner()
        scene.fake.push(REPO, "main", {FILE: WORKFLOW.format(label=runner.name)})
        scene.installation = scene.fake.install(scene.app, "acme")
        scene.settle()
        yield Gated(scene, runner)


def test_a_worse_pull_request_fails_its_status_and_a_better_one_passes(gated: Gated) -> None:
    parted = gated.push()
    base = gated.run_of(parted, "push")
    gated.end(base, 0.922)
    gated.until(base, "no_base", "first result")
    worse = gated.push("worse")
    number = gated.fake.open_pull(REPO, "worse", "main", "Worse", "ada")
    later = gated.push()  # main goes on
    gated.end(gated.run_of(later, "push"), 0.99)
    run = gated.run_of(worse, "pull_request")
    assert (run.is_clean, run.pull_request) == (True, number)
    gated.end(run, 0.9)
    gated.until(run, "failed", "accuracy 0.9 < base 0.922 - 0.01")
    state, text = gated.final_status(worse)
    assert state == "failure" and "accuracy 0.9 < base 0.922 - 0.01" in text
    better = gated.push("worse")
    run = gated.run_of(better, "pull_request")
    gated.end(run, 0.934)
    gated.until(run, "passed", "accuracy 0.934 >= base 0.922 - 0.01")
    state, text = gated.final_status(better)
    assert state == "success" and "accuracy 0.934 (+0.012)" in text
    assert gated.base(run) == base.name


def test_a_status_is_pending_while_the_base_trains_and_decided_when_it_lands(gated: Gated) -> None:
    parted = gated.push()
    base = gated.run_of(parted, "push")
    head = gated.push("early")
    gated.fake.open_pull(REPO, "early", "main", "Early", "ada")
    run = gated.run_of(head, "pull_request")
    wait_for(lambda: gated.base(run) == base.name)  # known while it runs
    gated.end(run, 0.9)
    gated.until(run, "pending", f"base {base.name} still runs")
    state, _ = wait_for(lambda: (found := gated.status(head)) and base.name in found[1] and found)
    assert state == "pending"
    gated.end(base, 0.95)
    gated.until(run, "failed", "accuracy 0.9 < base 0.95 - 0.01")
    assert gated.final_status(head)[0] == "failure"


BOTH = WORKFLOW.replace("on: {{push: {{branches: [main]}}, pull_request: {{}}}}", "on: [push, pull_request]")


@pytest.mark.parametrize("first", ["push", "pull_request"])
def test_a_pull_requests_gate_speaks_over_that_of_its_push(gated: Gated, first: str) -> None:
    """The push is compared with the commit before it, which may be the one that made things worse."""
    base = gated.run_of(gated.push(), "push")
    gated.end(base, 0.922)
    branch = unique("both")
    worse = gated.push(branch, **{FILE: BOTH.format(label=gated.runner.name)})
    number = gated.fake.open_pull(REPO, branch, "main", "Worse", "ada")
    gated.scene.settle()
    gated.end(gated.run_of(worse, "push"), 0.5)
    if first == "pull_request":
        gated.fake.webhooks.hold()
    head = gated.fake.push_pull(REPO, number, {"train.py": unique("# changed")})
    if first == "pull_request":
        gated.fake.webhooks.release(Backwards())
    gated.scene.settle()
    runs = [gated.run_of(head, trigger) for trigger in ("push", "pull_request")]
    did, adopted = sorted(runs, key=lambda run: run.id or 0)
    assert (did.trigger, adopted.adopted_id) == (first, did.id)
    gated.end(did, 0.5)
    wait_for(lambda: all(gated.row(run).verdict for run in runs))
    assert [gated.row(run).verdict in LETS_PASS for run in runs] == [True, False]
    said = "accuracy 0.5 < base 0.922 - 0.01"
    assert said in gated.final_status(head)[1]
    wanted = {"dstack / train": "failure", "dstack / train (push)": "success"}
    wait_for(lambda: {name: check.conclusion for name, check in checks(gated, head).items()} == wanted)
    wait_for(lambda: any("the gate of train failed" in comment.body for comment in gated.fake.comments(REPO, number)))

    # Whoever presses Re-run at the push's check changes nothing of it.
    gated.fake.set_permission(REPO, "octocat", "write")
    gated.fake.press_rerun(checks(gated, head)["dstack / train (push)"].id)
    gated.scene.settle()
    again = gated.scene.runs(head)[-1]
    gated.end(again, 0.5)
    wait_for(lambda: gated.row(again).verdict in LETS_PASS)
    wait_for(
        lambda: len(gated.fake.checks(REPO, head)) == 3 and all(c.conclusion for c in gated.fake.checks(REPO, head))
    )
    assert gated.status(head) is not None and gated.final_status(head)[0] == "failure"
    assert any("the gate of train failed" in comment.body for comment in gated.fake.comments(REPO, number))
    assert checks(gated, head)["dstack / train"].conclusion == "failure"


class Backwards(Random):
    def shuffle(self, x: list[object]) -> None:  # type: ignore[override]
        x.reverse()


def checks(gated: Gated, sha: str) -> dict[str, Any]:
    return {check.name: check for check in gated.fake.checks(REPO, sha)}
