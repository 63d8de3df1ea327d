"""What the command line makes of gates: their words, the wait for a verdict, the exit code."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from api_server import ApiServer

from dstack.cli import follow

Dstack = Callable[..., Any]
GATE = "accuracy >= base - 0.01"


@pytest.mark.parametrize(
    ("verdict", "code", "why"),
    [
        ("passed", 0, "accuracy 0.953 >= base 0.95 - 0.01"),
        ("failed", 7, "accuracy 0.9 < base 0.95 - 0.01"),
        ("within_noise", 0, "accuracy 0.939 < base 0.95 - 0.01, within the noise of the base (0.004)"),
        ("no_base", 0, "first result"),
        ("pending", 0, "base brave-otter-17 still runs"),
    ],
)
def test_a_verdict_is_said_and_decides_the_exit_code(
    api: ApiServer, dstack: Dstack, verdict: str, code: int, why: str
) -> None:
    api.add_run("one", gate=GATE, verdict=verdict, verdict_why=why)
    for words in (["wait", "one"], ["logs", "-f", "one"]):
        done = dstack(*words)
        assert done.code == code
        assert f"gate {verdict.replace('_', ' ')}: {why}" in done.err


def test_the_verdict_that_follows_the_end_is_waited_for(api: ApiServer, dstack: Dstack) -> None:
    run = api.add_run("one", gate=GATE)
    later = threading.Timer(0.3, lambda: run.update(verdict="failed", verdict_why="worse"))
    later.start()
    done = dstack("wait", "one", "--json")
    later.join()
    assert done.code == 7
    assert json.loads(done.out)["verdict"] == "failed"


def test_a_verdict_that_does_not_come_is_not_waited_for_for_ever(
    api: ApiServer, dstack: Dstack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "VERDICT_S", 0.1)
    api.add_run("one", gate=GATE)
    done = dstack("wait", "one")
    assert done.code == 0 and "gate not judged yet" in done.err


def test_a_run_that_failed_waits_for_no_verdict(api: ApiServer, dstack: Dstack) -> None:
    api.add_run("one", gate=GATE, state="failed")
    done = dstack("wait", "one")
    assert done.code == 3 and "gate" not in done.err


@pytest.mark.parametrize(
    ("more", "delta"),
    [
        ({"base_run": "two", "base_metrics": {"accuracy": 0.9}, "previous_metrics": {"accuracy": 0.1}}, "(+0.053)"),
        ({"base_run": None, "base_metrics": {}, "previous_metrics": {"accuracy": 0.95}}, "(+0.003)"),
        ({"base_run": "two", "base_metrics": {}, "previous_metrics": {"accuracy": 0.95}}, ""),
    ],
)
def test_a_metric_is_shown_against_the_base_else_the_run_before(
    api: ApiServer, dstack: Dstack, more: dict[str, Any], delta: str
) -> None:
    api.add_run("one", **more)
    for words in (["runs"], ["wait", "one"]):
        done = dstack(*words)
        assert f"accuracy 0.953 {delta}".strip() in done.out + done.err
        assert ("(" in done.out + done.err) == bool(delta)


def test_a_list_shows_the_gates_that_failed_or_wait(api: ApiServer, dstack: Dstack) -> None:
    for name, verdict in (("one", "failed"), ("two", "pending"), ("three", "passed"), ("four", "within_noise")):
        api.add_run(name, gate=GATE, verdict=verdict, tags=["best"])
    ends = {line.split()[0]: line.split("best")[1].strip() for line in dstack("runs").out.splitlines()[1:]}
    assert ends == {"one": "gate failed", "two": "gate pending", "three": "", "four": ""}


def test_one_run_is_shown_with_its_base_and_gate(api: ApiServer, dstack: Dstack) -> None:
    api.add_run("one", gate=GATE, base_run="two", verdict="no_base", verdict_why="first result")
    out = dstack("runs", "one").out
    assert "base       two" in out and f"gate       {GATE}" in out and "verdict    no base: first result" in out
