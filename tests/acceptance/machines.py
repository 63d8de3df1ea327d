"""Processes of the product under test: a server, runners and the command, each its own process with its own folders."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import requests

ADMIN_TOKEN = "dst_acceptance-admin-token"


def until(condition: Callable[[], object], within_s: float, what: str, *, closely: bool = False) -> object:
    """What `condition` answers once it is true; fails after `within_s`. It is looked at less often the longer that
    takes, so that the looking does not slow down what is awaited; `closely` for what is true for a moment only."""
    begun = time.monotonic()
    while not (answer := condition()):
        waited = time.monotonic() - begun
        assert waited < within_s, f"not within {within_s:.0f} s: {what}"
        time.sleep(0.02 if closely else max(0.02, min(0.2, waited / 20)))
    return answer


def free_port() -> int:
    """A port below those that outgoing connections take, so that a server can come back to it."""
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def own_env(home: Path, **more: str) -> dict[str, str]:
    """The environment of a person with an empty home folder, and nothing of ours."""
    kept = ("PATH", "LANG", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "UV_INDEX_URL", "UV_DEFAULT_INDEX", "PIP_INDEX_URL")
    env = {name: os.environ[name] for name in kept if name in os.environ}
    folders = {f"XDG_{kind}_HOME": str(home / kind.lower()) for kind in ("CONFIG", "DATA", "STATE", "CACHE")}
    who = {"GIT_CONFIG_GLOBAL": str(home / "gitconfig"), "GIT_CONFIG_NOSYSTEM": "1"}
    return env | folders | who | {"HOME": str(home), "PYTHONUNBUFFERED": "1"} | more


class Machine:
    """One process that may be killed, stopped, continued and started again; its output is kept in a file."""

    def __init__(self, name: str, words: list[str], env: Mapping[str, str], log: Path) -> None:
        self.name, self.log = name, log
        self._argv = [sys.executable, "-m", *words]
        self.env = dict(env)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def code(self) -> int | None:
        """Its exit code, None while it runs."""
        return self._process.poll() if self._process is not None else None

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def text(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def spawn(self, **env: str) -> None:
        assert not self.is_running
        with open(self.log, "ab") as output:
            self._process = subprocess.Popen(
                self._argv, env=self.env | env, cwd="/", stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True,
            )  # fmt: skip

    def start(self) -> float:
        """Start it, and wait until it is ready where that can be seen; how many seconds that took."""
        self.spawn()
        return 0.0

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL, and gone when this returns."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(20)

    def leave(self, within_s: float = 30.0) -> int:
        """SIGTERM; its exit code."""
        assert self._process is not None
        self._process.terminate()
        try:
            return self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} did not leave within {within_s} s:\n{self.text[-3000:]}") from None

    def ended(self, within_s: float) -> int:
        """Wait until it ends by itself; its exit code."""
        assert self._process is not None
        return self._process.wait(within_s)


class Server(Machine):
    """`dstack server --no-runner` on a fixed port, or with the runner beside it."""

    def __init__(self, root: Path, *, runner: bool = False, **env: str) -> None:
        self.data, self.port = root / "server", free_port()
        self.home = root / "server-home"
        self.home.mkdir(exist_ok=True)
        words = ["dstack.cli.main", "server", "--host", "127.0.0.1", "--port", str(self.port), "--data", str(self.data)]
        base = own_env(self.home, DSTACK_ADMIN_TOKEN=ADMIN_TOKEN, **env)
        super().__init__("server", words if runner else [*words, "--no-runner"], base, root / "server.log")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, **env: str) -> float:
        """Seconds until it was ready. `env` holds for this start alone."""
        begun = time.monotonic()
        self.spawn(**env)
        until(self.is_ready, 30, f"the server is ready; it says:\n{self.text[-3000:]}")
        return time.monotonic() - begun

    def is_ready(self) -> bool:
        assert self.is_running, f"the server ended ({self.code}):\n{self.text[-3000:]}"
        try:
            return requests.get(f"{self.url}/healthz", timeout=2).status_code == 200
        except requests.RequestException:
            return False


class Runner(Machine):
    """`dstack-runner start` against a server, or a proxy before it."""

    def __init__(self, root: Path, url: str, name: str, *, slots: int = 4, **env: str) -> None:
        self.home, self.data = root / f"{name}-home", root / name
        self.home.mkdir(exist_ok=True)
        base = own_env(
            self.home, DSTACK_SERVER=url, DSTACK_TOKEN=ADMIN_TOKEN, DSTACK_RUNNER_NAME=name,
            DSTACK_RUNNER_DATA=str(self.data), DSTACK_RUNNER_SLOTS=str(slots),
        )  # fmt: skip
        super().__init__(name, ["dstack_runner", "start"], base | env, root / f"{name}.log")
