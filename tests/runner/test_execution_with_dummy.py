"""One attempt's whole life with an executor that plays every end a process can have."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import uv
from runner_server import RUNNER_TOKEN, FakeAttempt, FakeServer, until

from dstack.wire.job import Command, Job, Resources
from dstack.wire.runner import Finish, Stop
from dstack.wire.states import AttemptState, Reason
from dstack_runner.attempt import Kit
from dstack_runner.caches import Caches
from dstack_runner.content.cache import BlobCache
from dstack_runner.control import Control
from dstack_runner.environments import Environments
from dstack_runner.execute import Execution
from dstack_runner.executors.dummy import DummyExecutor
from dstack_runner.server import Server
from dstack_runner.workspace import Workspaces

Play = Callable[..., FakeAttempt]


@pytest.fixture
def play(server: FakeServer, tmp_path: Path) -> Play:
    """Carry out a job whose commands are the dummy's acts."""
    spools = tmp_path / "spool"
    spools.mkdir()
    environments = Environments(tmp_path / "environments", Path(uv.find_uv_bin()), limit_bytes=10**9)
    kit = Kit(
        server.url, DummyExecutor(), Workspaces(tmp_path), environments, Caches(tmp_path / "caches"),
        BlobCache(tmp_path / "blobs"),
    )  # fmt: skip

    def play(*acts: str, control: Control | None = None, wait: bool = True, **job: object) -> FakeAttempt:
        commands = tuple(Command(argv=("play", *act.split())) for act in acts)
        attempt = server.put(Job(commands=commands, **job), server.commit({"a": ""}))  # type: ignore[arg-type]
        attempt.offered = attempt.accepted = True
        connection = Server(server.url, RUNNER_TOKEN)
        execution = Execution(attempt.order, attempt.lease, kit, connection, control or Control(), spools, None)
        if wait:
            execution.run()
            assert list(spools.iterdir()) == []
        else:
            threading.Thread(target=execution.run, daemon=True).start()
        return attempt

    return play


def told(attempt: FakeAttempt) -> tuple[AttemptState, Reason | None, int | None, bool]:
    finish: Finish | None = attempt.finish
    assert finish is not None
    return finish.state, finish.reason, finish.exit_code, finish.machine_fault


@pytest.mark.parametrize(
    ("act", "end"),
    [
        ("print:hi", (AttemptState.SUCCEEDED, None, 0, False)),
        ("exit:3", (AttemptState.FAILED, Reason.EXIT_CODE, 3, False)),
        ("signal:11", (AttemptState.FAILED, Reason.EXIT_CODE, 139, False)),
        ("out-of-memory", (AttemptState.FAILED, Reason.OUT_OF_MEMORY, 137, False)),
        ("start-fails", (AttemptState.FAILED, Reason.ENVIRONMENT, None, True)),
        ("leftovers:2", (AttemptState.SUCCEEDED, None, 0, False)),
    ],
)
def test_every_end_is_told_as_what_it_is(play: Play, act: str, end: tuple[object, ...]) -> None:
    assert told(play(act)) == end


def test_a_timeout_stops_with_grace(play: Play) -> None:
    attempt = play("ignore-term forever", timeout_s=1, stop_grace_s=0)
    assert told(attempt)[:2] == (AttemptState.FAILED, Reason.TIMEOUT)


def test_the_limit_that_was_too_small_is_named(play: Play) -> None:
    attempt = play("out-of-memory", resources=Resources(memory=1024))
    assert attempt.finish is not None and "its limit is 1024 bytes" in attempt.finish.message


def test_a_burst_of_output_is_whole(play: Play) -> None:
    attempt = play("burst:20000000")
    assert len(attempt.log) == 20_000_000 and attempt.finish is not None and attempt.finish.log_bytes == 20_000_000


@pytest.mark.parametrize("reason", [Reason.CANCELED_BY, Reason.SUPERSEDED_BY, Reason.PREEMPTED])
def test_a_stop_is_told_with_its_reason(play: Play, reason: Reason) -> None:
    control = Control()
    attempt = play("print:up forever", "print:never", control=control, wait=False)
    until(lambda: "up" in attempt.text)
    control.request(Stop(attempt.order.attempt, reason, 1))
    until(lambda: attempt.finish is not None)
    state = AttemptState.PREEMPTED if reason is Reason.PREEMPTED else AttemptState.STOPPED
    assert told(attempt)[:2] == (state, reason)
    assert "never" not in attempt.text


def test_a_stop_before_anything_began_runs_nothing(play: Play) -> None:
    control = Control()
    control.request(Stop("attempt1", Reason.CANCELED_BY, 1))
    attempt = play("print:never", control=control)
    assert told(attempt)[:2] == (AttemptState.STOPPED, Reason.CANCELED_BY)
    assert attempt.text == ""
