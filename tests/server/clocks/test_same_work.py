"""The same work is not done twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from served_api import Api, ARunner, WorkingCopy, serve, wait_for

from dstack.server.store.runs import run_by_name

WORKFLOWS = """\
workflows:
  - name: prepare
    provider: bash
    commands: ["echo prepare"]
    artifacts: [data]
    paths: [prepare.sh]
    resources: {labels: [%s]}
    on: manual
  - name: train
    provider: bash
    commands: ["echo train"]
    artifacts: [model]
    depends-on: [prepare]
    paths: [train.sh]
    resources: {labels: [%s]}
    on: {push: {}}
"""


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    with serve(tmp_path) as api:
        yield api


@pytest.fixture
def runner(api: Api) -> ARunner:
    return api.runner()


@pytest.fixture
def copy(api: Api, runner: ARunner) -> WorkingCopy:
    copy = api.working_copy()
    text = WORKFLOWS % (runner.name, runner.name)
    copy.commit({".dstack/workflows.yaml": text, "train.sh": "1", "prepare.sh": "1"})
    copy.push()
    return copy


def newest(copy: WorkingCopy, workflow: str) -> dict[str, Any]:
    return next(run for run in copy.runs() if run["workflow"] == workflow)


def finish(api: Api, runner: ARunner, run: str, artifact: str) -> None:
    held = runner.take(run)
    held.state("running")
    held.save(artifact, {"file": run.encode()})
    held.finish(metrics={"accuracy": 0.9})
    wait_for(lambda: api.get_run(run)["state"] == "succeeded")


def push_to_new_branch(copy: WorkingCopy, branch: str, **files: str) -> None:
    """The changed paths of a new branch are not known, so no path filter speaks."""
    copy.git("checkout", "-q", "-b", branch)
    copy.commit({name.replace("_", "."): text for name, text in files.items()})
    copy.push(branch)


def test_an_equal_run_is_adopted_with_its_results(api: Api, runner: ARunner, copy: WorkingCopy) -> None:
    prepare, train = newest(copy, "prepare"), newest(copy, "train")
    finish(api, runner, prepare["name"], "data")
    finish(api, runner, train["name"], "model")
    push_to_new_branch(copy, "docs", README_md="words")
    same = wait_for(lambda: (run := newest(copy, "train"))["branch"] == "docs" and run)
    assert same["state"] == "succeeded" and same["name"] != train["name"]
    assert same["same_as"] == train["name"]
    assert same["metrics"] == {"accuracy": 0.9}
    assert same["jobs"][0]["artifacts"][0]["path"] == "model"
    assert api.ok("GET", f"/api/v1/runs/{same['name']}/artifacts")[0]["path"] == "model"
    assert runner.poll()["offers"] == [], "nothing is left to do"


def test_one_under_way_is_waited_for_and_ends_both(api: Api, runner: ARunner, copy: WorkingCopy) -> None:
    prepare, train = newest(copy, "prepare"), newest(copy, "train")
    push_to_new_branch(copy, "docs", README_md="words")
    same = wait_for(lambda: (run := newest(copy, "train"))["branch"] == "docs" and run)
    assert same["state"] == "waiting" and same["reason"] == f"same as {train['name']}, which is waiting"
    finish(api, runner, prepare["name"], "data")
    finish(api, runner, train["name"], "model")
    assert api.get_run(same["name"])["state"] == "succeeded"
    assert newest(copy, "prepare")["same_as"] == prepare["name"]


def test_a_failure_is_shared_and_a_stop_is_not(api: Api, runner: ARunner, copy: WorkingCopy) -> None:
    prepare = newest(copy, "prepare")
    push_to_new_branch(copy, "docs", README_md="words")
    wait_for(lambda: newest(copy, "train")["branch"] == "docs")
    api.ok("POST", f"/api/v1/runs/{prepare['name']}/stop", json={"group": True})
    own = newest(copy, "prepare")
    assert own["branch"] == "docs" and own["state"] in ("queued", "offered") and own["same_as"] is None
    assert newest(copy, "train")["state"] == "waiting", "it waits for its own prepare now"
    finish(api, runner, own["name"], "data")
    mine = wait_for(lambda: (run := newest(copy, "train"))["state"] in ("queued", "offered") and run)
    held = runner.take(mine["name"])
    assert [i["source"] for i in held.order["inputs"]] == [f"prepare ({own['name']})"]
    push_to_new_branch(copy, "docs2", README_md="more words")
    follower = wait_for(lambda: (run := newest(copy, "train"))["branch"] == "docs2" and run)
    assert follower["same_as"] == mine["name"]
    held.end("failed", exit_code=3, reason="exit_code", message="it broke")
    failed = api.get_run(follower["name"])
    assert (failed["state"], failed["reason"]) == ("failed", "exit_code")
    assert failed["jobs"][0]["message"] == "it broke"
    stored = api.wiring.db.read(lambda s: run_by_name(s, follower["name"]))
    assert stored is not None and stored.message == f"same as {mine['name']}: it broke"


def test_what_differs_is_done(api: Api, runner: ARunner, copy: WorkingCopy) -> None:
    train = newest(copy, "train")
    push_to_new_branch(copy, "code", train_sh="2")
    other = wait_for(lambda: (run := newest(copy, "train"))["branch"] == "code" and run)
    assert other["same_as"] is None and other["name"] != train["name"]
    assert newest(copy, "prepare")["same_as"] is not None, "what it reads is the same"


def test_fresh_does_it_again(api: Api, runner: ARunner, copy: WorkingCopy) -> None:
    prepare, train = newest(copy, "prepare"), newest(copy, "train")
    finish(api, runner, prepare["name"], "data")
    finish(api, runner, train["name"], "model")
    body = {"repo": copy.repo, "sha": train["sha"], "workflow": "train", "branch": "main"}
    adopted = api.ok("POST", "/api/v1/runs", json=body)["runs"]
    assert {run["same_as"] for run in adopted} == {prepare["name"], train["name"]}
    fresh = api.ok("POST", "/api/v1/runs", json={**body, "fresh": True})["runs"]
    assert {run["same_as"] for run in fresh} == {None}
    again = api.ok("POST", f"/api/v1/runs/{adopted[0]['name']}/restart")["runs"][0]
    assert again["state"] in ("queued", "offered") and again["same_as"] is None, "a restart is asked for in earnest"


def test_a_tag_is_put_on_the_run_that_did_the_work(api: Api, runner: ARunner, copy: WorkingCopy) -> None:
    prepare = newest(copy, "prepare")
    finish(api, runner, prepare["name"], "data")
    push_to_new_branch(copy, "docs", README_md="words")
    same = wait_for(lambda: (run := newest(copy, "prepare"))["branch"] == "docs" and run)
    tag = api.ok("PUT", f"/api/v1/repos/{copy.repo}/tags/prepare/good", json={"run": same["name"]})
    assert tag["run"] == prepare["name"] and tag["artifacts"][0]["path"] == "data"
