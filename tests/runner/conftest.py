"""A fake server over real HTTP and Git, and runners beside it in this process."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "fakes"))

from runner_server import FakeServer, until

from dstack.errors import DstackError


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FakeServer]:
    folder = tmp_path / "server"
    folder.mkdir()
    fake = FakeServer(folder).start()
    yield fake
    fake.stop()


class RunningRunner:
    """A runner in a thread; `leave` asks it to stop and returns when it has."""

    def __init__(self, server: FakeServer, data: Path, /, renew_every_s: float = 10.0, **settings: object) -> None:
        from dstack_runner.loop import Runner
        from dstack_runner.settings import Settings

        chosen = {"server": server.url, "data": data, "token": "registration-token", "name": "r", **settings}
        self.runner = Runner(Settings(**chosen), renew_every_s=renew_every_s)
        self.error: DstackError | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.runner.run()
        except DstackError as error:
            self.error = error

    def leave(self, within_s: float = 20.0) -> None:
        self.runner.shutdown.ask_now()
        self.thread.join(within_s)
        assert not self.thread.is_alive(), "the runner does not leave"
        if self.runner.polling is not None:
            self.runner.polling.join(within_s)  # else its connection would be closed in the middle of another test


@pytest.fixture
def start_runner(server: FakeServer, tmp_path: Path) -> Iterator[object]:
    started: list[RunningRunner] = []

    def start(*, wait: bool = True, **settings: object) -> RunningRunner:
        running = RunningRunner(server, tmp_path / "runner", **settings)
        started.append(running)
        if wait:
            until(lambda: running.runner.online.is_set() or running.error or server.polls, what="the runner polls")
        return running

    yield start
    for running in started:
        running.leave()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeServer]:
    """A server with an isolating runner of default settings beside it, shared by the tests of a file."""
    folder = tmp_path_factory.mktemp("site")
    fake = FakeServer(folder).start()
    running = RunningRunner(fake, folder / "runner", slots=2)
    until(lambda: fake.polls or running.error, what="the runner polls")
    yield fake
    running.leave()
    fake.stop()
