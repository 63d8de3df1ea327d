"""Fixtures: the fake API server, a signed-in home, and the `dstack` command in this process and as one of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "fakes"))

from api_server import TOKEN, ApiServer, Host

from dstack.cli.main import main

CLEARED = ("DSTACK_SERVER", "DSTACK_TOKEN", "NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE", "COLUMNS", "http_proxy")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user without anything: no configuration, no state."""
    for name in [*CLEARED, *(n for n in os.environ if n.startswith("GIT_"))]:
        monkeypatch.delenv(name, raising=False)
    for name, folder in (("XDG_CONFIG_HOME", "config"), ("XDG_STATE_HOME", "state"), ("XDG_DATA_HOME", "data")):
        monkeypatch.setenv(name, str(tmp_path / "home" / folder))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def host() -> Iterator[Host]:
    host = Host()
    yield host
    host.stop()


@pytest.fixture
def api(home: Path, host: Host, monkeypatch: pytest.MonkeyPatch) -> ApiServer:
    server = ApiServer(home / "server", host)
    monkeypatch.setenv("DSTACK_SERVER", server.url)
    monkeypatch.setenv("DSTACK_TOKEN", TOKEN)
    return server


class Done:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def dstack(capfd: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Run a command in this process: `dstack("runs", "--json")`."""

    def run(*words: str) -> Done:
        capfd.readouterr()
        try:
            code = main(list(words))
        except SystemExit as ended:  # argparse
            code = int(ended.code or 0)
        out, err = capfd.readouterr()
        return Done(code, out, err)

    return run


@pytest.fixture
def start(home: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start `dstack WORDS` as a process of its own."""
    processes: list[subprocess.Popen[bytes]] = []

    def begin(*words: str, env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        argv = [sys.executable, "-m", "dstack.cli.main", *words]
        process = subprocess.Popen(
            argv,
            env={**os.environ, **(env or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # As at a terminal: what runs the tests in the background may have Ctrl-C ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        processes.append(process)
        return process

    yield begin
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()
