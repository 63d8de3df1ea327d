"""The product as it is measured: a real server with its real runner, repositories to push, and the records they leave.

Times are read from what the product stores anyway (its database, its log files), so that measuring costs it nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from fake_github import App, FakeGitHub

TOKEN = "dst_bench-admin-token"  # of a server that lives for one measurement
POLL_S = 0.05
FINAL = ("succeeded", "failed", "stopped", "skipped")


@dataclass(frozen=True, slots=True)
class RunTimes:
    """One run as the server recorded it; times are seconds since the epoch."""

    name: str
    state: str
    attempt: str
    received: float  # its push was taken in
    queued: float
    accepted: float
    finished: float
    reason: str


@dataclass
class Scene:
    """A server under measurement and the folder it lives in."""

    root: Path
    env: dict[str, str]
    process: subprocess.Popen[str]
    url: str
    repos: dict[str, Path] = field(default_factory=dict)

    @property
    def data(self) -> Path:
        return self.root / "server"

    def rss_mb(self) -> float:
        """Resident memory of the server process, in 10^6 bytes."""
        return float(psutil.Process(self.process.pid).memory_info().rss / 1e6)

    def query(self, sql: str, *values: object) -> list[tuple[object, ...]]:
        with contextlib.closing(sqlite3.connect(f"file:{self.data}/dstack.db?mode=ro", uri=True)) as connection:
            return connection.execute(sql, values).fetchall()

    def new_repo(self, name: str, files: Mapping[str, str]) -> Path:
        """A repository with one commit, whose remote is the server."""
        folder = self.root / "repos" / name
        folder.mkdir(parents=True)
        self.git(folder, "init", "--quiet", "--initial-branch=main")
        host = self.url.removeprefix("http://")
        self.git(folder, "remote", "add", "dstack", f"http://x:{TOKEN}@{host}/git/local/{name}.git")
        write(folder, files)
        self.commit(folder)
        return folder

    def git(self, folder: Path, *words: str) -> str:
        done = subprocess.run(["git", *words], cwd=folder, env=self.env, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"git {words[0]} failed: {done.stderr}")
        return done.stdout

    def commit(self, folder: Path) -> str:
        self.git(folder, "add", "--all")
        self.git(folder, "commit", "--quiet", "--allow-empty", "--message", "a change")
        return self.git(folder, "rev-parse", "HEAD").strip()

    def push(self, folder: Path) -> None:
        self.git(folder, "push", "--quiet", "dstack", "HEAD:main")

    def push_and_wait(self, folder: Path, within_s: float = 120.0) -> list[RunTimes]:
        """Commit what is there, push it, and wait for the runs of that commit to end. All must succeed."""
        sha = self.commit(folder)
        self.push(folder)
        return self.wait(sha, within_s)

    def wait(self, sha: str, within_s: float = 120.0, every_s: float = POLL_S) -> list[RunTimes]:
        """The runs of a commit, once all are final. Raises RuntimeError when one did not succeed."""
        deadline = time.monotonic() + within_s
        while True:
            states = [str(row[0]) for row in self.query("SELECT state FROM runs WHERE sha = ?", sha)]
            if states and all(state in FINAL for state in states):
                break
            if time.monotonic() > deadline:
                raise RuntimeError(f"not ended within {within_s:.0f} s: {states[:5]}")
            time.sleep(every_s)
        runs = self.runs(sha)
        if bad := [run for run in runs if run.state != "succeeded"]:
            log = self.log_path(bad[0].attempt)
            said = log.read_text(errors="replace")[-2000:] if log.exists() else "(no log)"
            raise RuntimeError(f"{len(bad)} runs did not succeed: {bad[0].reason}\n{said}")
        return runs

    def runs(self, sha: str) -> list[RunTimes]:
        rows = self.query(
            "SELECT runs.name, runs.state, COALESCE(attempts.id, ''), deliveries.received_at, jobs.queued_at,"
            " attempts.accepted_at, runs.finished_at, runs.message FROM runs JOIN groups ON groups.id = runs.group_id"
            " JOIN deliveries ON deliveries.id = groups.delivery_id JOIN jobs ON jobs.run_id = runs.id"
            " LEFT JOIN attempts ON attempts.job_id = jobs.id WHERE runs.sha = ? ORDER BY runs.id",
            sha,
        )
        return [RunTimes(*row) for row in rows]  # type: ignore[arg-type]

    def log_path(self, attempt: str) -> Path:
        return self.data / "logs" / attempt[-2:] / f"{attempt}.log"

    def log_stored_at(self, run: RunTimes, last_line: str) -> float:
        """When the last bytes of a run's log were stored, which must be this line of the job's."""
        path = self.log_path(run.attempt)
        lines = path.read_text().splitlines()
        if not lines or lines[-1] != last_line:
            raise RuntimeError(f"the log of {run.name} does not end with {last_line!r}: {lines[-3:]}")
        return path.stat().st_mtime_ns / 1e9


def environment(root: Path) -> dict[str, str]:
    """That of a person with an empty home folder; byte code is kept, as on a machine in use."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "SSL_CERT_FILE") if name in os.environ}
    folders = {f"XDG_{kind}_HOME": str(root / "home" / kind.lower()) for kind in ("CONFIG", "DATA", "STATE", "CACHE")}
    who = {f"GIT_{role}_{what}": "bench@example.com" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    who |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    return {**kept, **folders, **who, "HOME": str(root / "home")}


@contextlib.contextmanager
def started(
    root: Path, *, slots: int = 4, runner: bool = True, settings: Mapping[str, str] | None = None
) -> Iterator[Scene]:
    """A server with a runner of `slots` beside it, ended when the block ends. `settings` are environment variables."""
    root.mkdir(parents=True, exist_ok=True)
    env = environment(root) | {"DSTACK_ADMIN_TOKEN": TOKEN, "DSTACK_RUNNER_SLOTS": str(slots), **(settings or {})}
    words = ["server", "--host", "127.0.0.1", "--port", "0", "--data", str(root / "server")]
    with open(root / "server.log", "ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "dstack.cli.main", *words, *([] if runner else ["--no-runner"])],
            env=env, cwd=root, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True,
        )  # fmt: skip
    try:
        scene = Scene(root, env, process, _address(process, root / "server.log"))
        if runner:
            _await_runner(scene)
        yield scene
    finally:
        process.send_signal(signal.SIGINT)  # a SIGTERM would leave jobs to go on without the server
        process.wait(60)
        assert process.stdout is not None
        process.stdout.close()


def connected(github: FakeGitHub, app: App) -> dict[str, str]:
    """The settings of a server that is connected as an App of a GitHub."""
    return {
        "DSTACK_GITHUB_APP_ID": str(app.id), "DSTACK_GITHUB_PRIVATE_KEY": app.pem,
        "DSTACK_GITHUB_WEBHOOK_SECRET": app.webhook_secret, "DSTACK_GITHUB_API_URL": github.api_url,
        "DSTACK_GITHUB_URL": github.url,
    }  # fmt: skip


def _address(process: subprocess.Popen[str], log: Path) -> str:
    assert process.stdout is not None
    url = ""
    for line in process.stdout:
        if line.startswith("dstack serves at "):
            url = line.split()[-1]
        if line.startswith("Sign in"):
            return url
    raise RuntimeError(f"the server did not start:\n{log.read_text(errors='replace')[-3000:]}")


def _await_runner(scene: Scene, within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s
    while not scene.query("SELECT 1 FROM runners"):
        if time.monotonic() > deadline:
            raise RuntimeError("the runner did not register")
        time.sleep(POLL_S)


def write(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def workflows(*entries: str) -> dict[str, str]:
    """A `.dstack/workflows.yaml` of these entries, each a block of YAML that starts with `name:`."""
    blocks = ["  - " + entry.strip().replace("\n", "\n    ") for entry in entries]
    return {".dstack/workflows.yaml": "workflows:\n" + "\n".join(blocks) + "\n"}


def filler(count: int, folders: int, size: int) -> dict[str, str]:
    """Source-like text files of about `size` bytes, no two alike."""
    files = {}
    for number in range(count):
        seed = hashlib.sha256(str(number).encode()).hexdigest()
        line = f"def function_{seed[:12]}(value):  # {seed}\n    return value + {number}\n\n"
        text = "".join(line.replace("value", f"v{n}") for n in range(max(1, size // len(line))))
        files[f"src/d{number % folders:03}/m{number:05}.py"] = text
    return files
