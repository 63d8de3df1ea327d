"""What an approval's budget covers, and what happens when it is used up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fork_scene import GPUS, Forks, forks
from served_api import ADMIN_TOKEN, Held, wait_for

from dstack.cli.main import main
from dstack.server.models import Run
from dstack.wire.states import JobState, Reason


@pytest.fixture
def timed(tmp_path: Path) -> Iterator[Forks]:
    """Of its own: the clock is moved."""
    with forks(tmp_path, GPUS) as scene:
        yield scene


@pytest.fixture
def dstack(
    scene: Forks, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    monkeypatch.setenv("DSTACK_SERVER", scene.api.url)
    monkeypatch.setenv("DSTACK_TOKEN", ADMIN_TOKEN)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))

    def run(*words: str) -> tuple[int, str]:
        code = main(list(words))
        said = capsys.readouterr()
        return code, said.out + said.err

    return run


def pass_time(scene: Forks, seconds: float, *held: Held) -> None:
    """In steps short enough for every lease."""
    while seconds > 0:
        scene.api.pass_time(min(seconds, 30))
        seconds -= 30
        for one in held:
            scene.taker.call("POST", "/api/v1/runner/renew", json={"leases": {one.attempt: one.lease}})


def approved(scene: Forks, words: str) -> tuple[int, Run, Held]:
    number = scene.fork_pull()
    scene.say(number, f"/dstack approve {scene.head(number)} {words}")
    train = scene.runs_of(number)[0]
    return number, train, scene.take(train)


def test_a_run_ends_with_its_budget_and_not_before(timed: Forks) -> None:
    number, train, held = approved(timed, "20gpu-min")
    assert held.order["devices"] == ["g0", "g1"]
    pass_time(timed, 500, held)
    assert timed.now(train).state is JobState.RUNNING and timed.taker.poll()["stops"] == []
    pass_time(timed, 110, held)  # 2 GPUs for more than 10 minutes
    stop = wait_for(lambda: timed.taker.poll()["stops"])[0]
    assert (stop["attempt"], stop["reason"]) == (held.attempt, "canceled_by")
    assert held.finish("stopped", reason="canceled_by").status_code == 204
    assert timed.state(train) == ("stopped", Reason.CANCELED_BY, "budget of 20gpu-min used up")
    # What needs it is stopped with it, and another try waits for another approval.
    evaluate = timed.runs_of(number)[1]
    assert timed.state(evaluate)[:2] == ("stopped", Reason.CANCELED_BY)
    again = timed.api.ok("POST", f"/api/v1/runs/{train.name}/restart")["runs"][0]
    assert again["state"] == "waiting" and again["reason"].startswith("waits for approval of ")
    timed.say(number, f"/dstack approve {train.sha} 1gpu-h")
    wait_for(lambda: timed.api.get_run(again["name"])["state"] == "offered")
    assert [a.gpu_seconds for a in timed.approvals()] == [3600.0]


def test_time_that_an_earlier_attempt_took_counts(timed: Forks) -> None:
    _, train, held = approved(timed, "20gpu-min")
    pass_time(timed, 400, held)
    assert held.finish("failed", reason="checkout", machine_fault=True).status_code == 204  # tried again
    pass_time(timed, 30)
    held = timed.take(train)
    assert timed.now(train).state is JobState.RUNNING
    pass_time(timed, 240, held)
    assert wait_for(lambda: timed.taker.poll()["stops"])[0]["attempt"] == held.attempt


def test_without_a_budget_there_is_no_limit(timed: Forks) -> None:
    _, train, held = approved(timed, "")
    pass_time(timed, 3600, held)
    assert timed.taker.poll()["stops"] == [] and timed.now(train).state is JobState.RUNNING


def test_a_budget_that_cannot_be_read_approves_nothing(scene: Forks, dstack: Callable[..., tuple[int, str]]) -> None:
    number = scene.fork_pull()
    run = scene.runs_of(number)[0]
    for words in ("4", "4h", "0gpu-h", "-1gpu-h"):
        scene.say(number, f"/dstack approve {run.sha} {words}")
        assert scene.now(run).is_held
    code, said = dstack("approve", run.name, "--budget", "4 hours")
    assert code == 1 and "is not a budget" in said and "4gpu-h" in said
    assert scene.now(run).is_held


def test_the_command_approves_the_commit_of_a_run(scene: Forks, dstack: Callable[..., tuple[int, str]]) -> None:
    number = scene.fork_pull()
    train, evaluate = scene.runs_of(number)
    code, said = dstack("approve", train.name, "--budget", "4gpu-h")
    assert code == 0 and f"#{number} is approved at {train.sha[:7]}, for 4gpu-h at most" in said
    assert {scene.now(run).approved_by for run in (train, evaluate)} == {"admin"}
    assert [a.gpu_seconds for a in scene.approvals() if a.sha == train.sha] == [14400.0]
    assert dstack("approve", "no-such-run-1")[0] == 5
    new = scene.push_pull(number)
    code, said = dstack("approve", evaluate.name)
    assert code == 1 and f"the head is {new[:7]}" in said


def test_the_list_of_runners_says_who_takes_strangers_work(
    scene: Forks, dstack: Callable[..., tuple[int, str]]
) -> None:
    scene.plain.poll()
    scene.taker.poll()
    rows = {line.split()[0]: line for line in dstack("runners")[1].splitlines()}
    assert " yes " in rows[scene.taker.name] and " no " in rows[scene.plain.name]
    views = {view["name"]: view["untrusted"] for view in scene.api.ok("GET", "/api/v1/runners")}
    assert (views[scene.taker.name], views[scene.plain.name]) == (True, False)
