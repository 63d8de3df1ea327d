"""The process executor under the contract: as the runner's own user and, where the machine lets us, isolated."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from executor_contract import ExecutorContract

from dstack_runner.executors.base import Launch
from dstack_runner.executors.choose import choose
from dstack_runner.executors.process import ProcessExecutor

# Each act as shell text; `exec` where the act is to happen to the main process itself.
_SHELL = {
    "print": "echo {}",
    "burst": "head -c {} /dev/zero",
    "sleep": "sleep {}",
    "forever": "exec sleep 1000",
    "ignore-term": "trap '' TERM",
    "leftovers": "for i in $(seq {}); do (setsid sleep 1000 &); done",
    "exit": "exit {}",
    "signal": "kill -{} $$",
}


def shell(*acts: str) -> str:
    parts = (act.partition(":") for act in acts)
    return "\n".join(_SHELL[word].format(value) for word, _, value in parts)


def launch(*acts: str) -> Launch:
    text = "" if acts == ("start-fails",) else shell(*acts)
    cwd = Path("/no/such/folder" if acts == ("start-fails",) else "/")
    return Launch(("/bin/sh", "-c", text), {"PATH": os.defpath}, cwd, "attempt")


class TestProcessExecutor(ExecutorContract):
    @pytest.fixture
    def executor(self, tmp_path: Path) -> ProcessExecutor:
        return ProcessExecutor(tmp_path / "records")

    @pytest.fixture
    def launch_of(self):
        return launch


class TestIsolatedExecutor(ExecutorContract):
    @pytest.fixture
    def choice(self, tmp_path: Path):
        choice = choose(tmp_path / "records", hidden=[tmp_path])
        if not choice.users:
            pytest.skip(f"jobs cannot be isolated here: {choice.why_not}")
        return choice

    @pytest.fixture
    def executor(self, choice):
        return choice.executor

    @pytest.fixture
    def launch_of(self, choice):
        leases = []

        def launch_of(*acts: str) -> Launch:
            leases.append(choice.users.take())
            return replace(launch(*acts), user=leases[-1].user)

        yield launch_of
        for lease in leases:
            lease.release()
