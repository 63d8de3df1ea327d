"""Verdicts through every door of a running server: push, runner, API, pages and the command line."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from served_api import ADMIN_TOKEN, Api, ARunner, WorkingCopy, serve, unique, wait_for

from dstack.cli.main import main
from dstack.server.models.token import TokenKind

WORKFLOW = """
workflows:
  - name: train
    provider: bash
    commands: 'true'
    tag: latest
    metrics: {{headline: accuracy}}
    gate: accuracy >= base - 0.01
    resources: {{labels: [{label}]}}
"""


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with serve(tmp_path_factory.mktemp("verdicts")) as api:
        yield api


class Trainings:
    """A repository whose pushes train on a runner that does what it is told."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.runner: ARunner = api.runner()
        self.copy: WorkingCopy = api.working_copy()
        self.files = {".dstack/workflows.yaml": WORKFLOW.format(label=self.runner.name)}

    def push(self) -> str:
        self.files["train.py"] = unique("# changed")  # else the work of the push before would be taken over
        sha = self.copy.commit(self.files)
        self.copy.push()
        found = wait_for(lambda: [run["name"] for run in self.copy.runs() if run["sha"] == sha])
        return str(found[0])

    def end(self, run: str, accuracy: float) -> dict[str, Any]:
        """The run once it is judged."""
        self.runner.take(run).end(metrics={"accuracy": accuracy})
        return self.judged(run)

    def judged(self, run: str, *verdicts: str) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            view: dict[str, Any] = self.api.get_run(run)
            return view if (view["verdict"] in verdicts if verdicts else view["verdict"]) else None

        view: dict[str, Any] = wait_for(look)
        return view


@pytest.fixture
def trainings(api: Api) -> Trainings:
    return Trainings(api)


def test_a_verdict_follows_the_end_of_a_run(api: Api, trainings: Trainings) -> None:
    first = trainings.end(trainings.push(), 0.9)
    assert (first["verdict"], first["verdict_why"], first["base_run"]) == ("no_base", "first result", None)
    assert first["gate"] == "accuracy >= base - 0.01"
    assert wait_for(lambda: api.get_run(first["name"])["tags"]) == ["latest"]
    second = trainings.end(trainings.push(), 0.5)
    assert (second["verdict"], second["base_run"]) == ("failed", first["name"])
    assert second["base_metrics"] == {"accuracy": 0.9}
    assert second["verdict_why"] == "accuracy 0.5 < base 0.9 - 0.01"
    assert (second["tags"], second["pull_request"], second["same_as"]) == ([], None, None)
    cookies = {"dstack_session": api.token(TokenKind.SESSION)}
    page = api.call("GET", f"/runs/{second['name']}", None, cookies=cookies).text
    assert "Gate failed" in page and "accuracy 0.5 &lt; base 0.9 - 0.01" in page
    assert f'Against its base, <a href="/runs/{first["name"]}">' in page


def test_a_verdict_that_waits_comes_when_the_base_lands(trainings: Trainings) -> None:
    base, run = trainings.push(), trainings.push()
    waiting = trainings.end(run, 0.9)
    assert (waiting["verdict"], waiting["verdict_why"]) == ("pending", f"base {base} still runs")
    began = time.monotonic()
    trainings.end(base, 0.95)
    decided = trainings.judged(run, "passed", "failed")
    assert (decided["verdict"], decided["base_run"]) == ("failed", base)
    assert time.monotonic() - began < 10


def test_the_command_line_exits_by_the_gate(
    trainings: Trainings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("DSTACK_SERVER", trainings.api.url)
    monkeypatch.setenv("DSTACK_TOKEN", ADMIN_TOKEN)
    good = trainings.end(trainings.push(), 0.9)["name"]
    assert main(["wait", good]) == 0
    bad = trainings.push()
    trainings.runner.take(bad).end(metrics={"accuracy": 0.8})
    assert main(["wait", bad]) == 7
    said = capsys.readouterr().err
    assert f"{bad} succeeded" in said and "gate failed: accuracy 0.8 < base 0.9 - 0.01" in said
    assert "accuracy 0.8 (-0.1)" in said
    assert main(["runs", bad]) == 0
    shown = capsys.readouterr().out
    assert f"base       {good}" in shown and "verdict    failed: accuracy 0.8 < base 0.9 - 0.01" in shown
