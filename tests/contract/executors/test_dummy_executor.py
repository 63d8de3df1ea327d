from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from executor_contract import ExecutorContract

from dstack_runner.executors.base import Exit, Launch
from dstack_runner.executors.dummy import DummyExecutor


class TestDummyExecutor(ExecutorContract):
    @pytest.fixture
    def executor(self) -> DummyExecutor:
        return DummyExecutor()

    @pytest.fixture
    def launch_of(self):
        return lambda *acts: Launch(("dummy", *acts), {}, Path("/"), "attempt")

    def test_it_plays_a_lack_of_memory(self, play) -> None:
        assert play("out-of-memory").end() == Exit(None, signal.SIGKILL, out_of_memory=True)

    def test_it_keeps_what_it_was_given_and_plays_by_it(self, launch_of) -> None:
        executor = DummyExecutor(lambda launch: ["exit:7"] if launch.argv == ("bash",) else [])
        for argv, code in ((("bash",), 7), (("sh",), 0)):
            ears, mouth = os.pipe()
            running = executor.start(Launch(argv, {}, Path("/"), "attempt"), mouth)
            assert running.wait(5) == Exit(code)
            os.close(ears)
            os.close(mouth)
        assert [launch.argv for launch in executor.launches] == [("bash",), ("sh",)]
