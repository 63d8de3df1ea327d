"""Real processes under the process executor, with a reader on their output."""

from __future__ import annotations

import contextlib
import os
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from jobs_on_machine import PYTHON, Job

from dstack_runner.executors.base import JobUser, Launch
from dstack_runner.executors.choose import Choice, choose
from dstack_runner.executors.process import ProcessExecutor


@pytest.fixture
def records(tmp_path: Path) -> Path:
    return tmp_path / "records"


@pytest.fixture
def start(records: Path) -> Iterator[Callable[..., Job]]:
    """Start a shell text, or argv; with an `executor` and any field of Launch by name."""
    jobs: list[Job] = []

    def start(command: str | tuple[str, ...], *, executor: ProcessExecutor | None = None, **fields) -> Job:
        argv = ("/bin/sh", "-c", command) if isinstance(command, str) else command
        env = {"PATH": f"{sys.prefix}/bin:{os.defpath}", "HOME": "/", **fields.pop("env", {})}
        launch = Launch(
            argv, env, fields.pop("cwd", Path("/")), fields.pop("scope", f"attempt-{uuid.uuid4().hex}"), **fields
        )
        ears, mouth = os.pipe()
        try:
            running = (executor or ProcessExecutor(records)).start(launch, mouth)
        except BaseException:
            os.close(ears)
            raise
        finally:
            os.close(mouth)
        jobs.append(Job(running, ears))
        return jobs[-1]

    yield start
    for job in jobs:
        job.running.kill()
        with contextlib.suppress(AssertionError):
            job.end()


@pytest.fixture
def isolating(records: Path, tmp_path: Path) -> Choice:
    """The machine's own choice, which must be isolation; the test's folder plays the runner's data."""
    choice = choose(records, hidden=[tmp_path])
    if not choice.users:
        pytest.skip(f"jobs cannot be isolated here: {choice.why_not}")
    return choice


@pytest.fixture
def user(isolating: Choice) -> Iterator[JobUser]:
    assert isolating.users
    with isolating.users.lent() as user:
        yield user


@pytest.fixture
def workspace(tmp_path: Path, user: JobUser) -> Path:
    folder = tmp_path / "workspaces" / "one"
    folder.mkdir(parents=True, mode=0o700)
    os.chown(folder, user.uid, user.gid)
    return folder


@pytest.fixture
def isolated(start, isolating: Choice, user: JobUser, workspace: Path) -> Callable[..., Job]:
    """Start an isolated job in the workspace, able to run Python."""

    def isolated(command: str | tuple[str, ...], **fields) -> Job:
        fields = {"user": user, "cwd": workspace, "visible": PYTHON, "env": {"HOME": str(workspace)}, **fields}
        return start(command, executor=isolating.executor, **fields)

    return isolated
