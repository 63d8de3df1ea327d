"""What the command line shows of pull requests, equal runs and triggers, in wide and narrow terminals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from api_server import ApiServer

Dstack = Callable[..., Any]
WAITS = "waits for approval of 0123456: `/dstack approve 0123456` by someone with write access"
JOB = {"name": "", "state": "waiting", "reason": WAITS, "attempt": 0, "runner": "", "exit_code": None, "artifacts": []}


def lines(out: str) -> dict[str, str]:
    """Run -> the rest of its line."""
    return {line.split()[0]: line.partition(" ")[2].strip() for line in out.splitlines()[1:]}


@pytest.fixture
def runs(api: ApiServer) -> ApiServer:
    api.add_run("one", pull_request=7, branch="faster", trigger="pull_request", verdict="failed")
    api.add_run("two", branch="main", same_as="one")
    api.add_run("three", branch="", trigger="tag-moved")
    api.add_run("four", pull_request=8, branch="better", state="waiting", reason=WAITS, metrics={}, jobs=[JOB])
    return api


def test_a_wide_table_shows_pull_request_and_branch(
    runs: ApiServer, dstack: Dstack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    shown = lines(dstack("runs").out)
    assert "#7 faster" in shown["one"] and "gate failed" in shown["one"]
    assert "same as one" in shown["two"] and "#" not in shown["two"]
    assert "tag moved" in shown["three"]
    assert "#8 better" in shown["four"] and WAITS in shown["four"]


def test_a_narrow_table_keeps_what_came_of_it(runs: ApiServer, dstack: Dstack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    out = dstack("runs").out
    shown = lines(out)
    assert max(map(len, out.splitlines())) <= 80
    assert "#7" in shown["one"] and "accuracy 0.953 gate failed" in shown["one"]
    assert "main" in shown["two"] and "same as one" in shown["two"]
    assert "#8" in shown["four"] and "waits for approval" in shown["four"]


def test_one_run_names_its_pull_request_and_the_run_that_did_the_work(runs: ApiServer, dstack: Dstack) -> None:
    runs.add_run("five", pull_request=7, same_as="one", restarted_from="two", trigger="manual")
    out = dstack("runs", "five").out
    for fact in ("pull       #7", "same as    one", "restart of two", "trigger    by hand"):
        assert fact in out
    assert dstack("runs", "four").out.count(WAITS) == 1, "of its job it need not be said again"


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        (["--pr", "7"], "pull_request=7"),
        (["--pr", "#7"], "pull_request=7"),
        (["--trigger", "comment"], "trigger=comment"),
        (["--trigger", "pull-request"], "trigger=pull_request"),
    ],
)
def test_a_list_is_narrowed_by_the_server(runs: ApiServer, dstack: Dstack, words: list[str], asked: str) -> None:
    assert dstack("runs", *words).code == 0
    assert asked in runs.calls("GET", "/runs")[-1][1]


@pytest.mark.parametrize("number", ["x", "-1", "7.5", "#", "9" * 20])
def test_what_is_no_number_is_said_so(api: ApiServer, dstack: Dstack, number: str) -> None:
    done = dstack("runs", f"--pr={number}")
    assert done.code == 2 and "is not the number of a pull request" in done.err
