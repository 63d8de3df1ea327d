"""The real server on a free port of this machine, in a thread, and callers of every kind to knock at its doors."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from http.client import HTTPConnection
from http.cookiejar import DefaultCookiePolicy
from itertools import count
from pathlib import Path
from typing import Any

import requests
import uvicorn
from ready_data import ready
from starlette.applications import Starlette
from starlette.routing import BaseRoute

from dstack.server.asgi import make_app
from dstack.server.bootstrap import start
from dstack.server.bus import QUEUE
from dstack.server.clock import Clock
from dstack.server.decide.plan import GroupPlan, NeedInput, RunPlan
from dstack.server.models import Run, Token
from dstack.server.models.token import TokenKind
from dstack.server.services.create_group import NameTaken, create_group
from dstack.server.services.hold_lease import expire_leases
from dstack.server.services.manage_users import SIGN_IN_S, make_token, redeem_sign_in
from dstack.server.settings import Settings
from dstack.server.store.people import digest_token, user_by_name
from dstack.server.store.repos import repo_by_name
from dstack.server.wiring import Wiring
from dstack.wire.job import Command, Job, Resources
from dstack.wire.manifest import FileEntry, Manifest
from dstack.wire.runner import LEASE_HEADER
from dstack.wire.states import Trigger

ADMIN_TOKEN = "admin-token-for-tests"
NUMBERS = count(1)
IDLE = Job((Command("true"),), resources=Resources(labels=("nobody",)))  # no runner of these tests takes it
GIT_ENV = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.org",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.org",
}


class MovableClock(Clock):
    """Real time, which a test may push ahead."""

    ahead: float = 0.0

    def now(self) -> float:
        return time.time() + self.ahead


def wait_for(condition: Callable[[], Any], timeout_s: float = 15.0) -> Any:
    """The first true answer of `condition`; the deadline fails the test. The longer it takes the less often it is
    looked at, so that the looking does not slow down what is awaited."""
    begun = time.monotonic()
    while not (answer := condition()):
        waited = time.monotonic() - begun
        assert waited < timeout_s, "waited in vain"
        time.sleep(max(0.01, min(0.1, waited / 20)))
    return answer


def unique(word: str) -> str:
    return f"{word}-{next(NUMBERS)}"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass
class Api:
    """A running server. `call` answers whatever it answers; `ok` expects success and gives the JSON."""

    url: str
    wiring: Wiring
    clock: MovableClock
    http: requests.Session
    folder: Path
    routes: Sequence[BaseRoute]

    def call(self, method: str, path: str, token: str | None = ADMIN_TOKEN, **more: Any) -> requests.Response:
        headers = dict(more.pop("headers", {}))
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        more.setdefault("timeout", 30)
        return self.http.request(method, self.url + path, headers=headers, allow_redirects=False, **more)

    def ok(self, method: str, path: str, token: str | None = ADMIN_TOKEN, **more: Any) -> Any:
        answer = self.call(method, path, token, **more)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text[:500]}"
        return answer.json() if answer.content else None

    def raw(self, method: str, path: str, token: str | None) -> int:
        """The status for a path sent exactly as it stands; other clients would tidy it first."""
        with closing(HTTPConnection(self.url.removeprefix("http://"), timeout=10)) as connection:
            connection.request(method, path, headers={"Authorization": f"Bearer {token}"} if token else {})
            return connection.getresponse().status

    def pass_time(self, seconds: float) -> None:
        """Let the server believe that time has passed, and look at offers and leases now."""
        self.clock.ahead += seconds
        self.expire_leases()
        self.wiring.bus.publish([QUEUE])

    def expire_leases(self) -> None:
        """What a timer of the server does every few seconds."""
        self.wiring.db.write(lambda s: expire_leases(s, self.clock.now(), self.wiring.settings.lease_s))

    # People

    def member(self) -> tuple[str, str]:
        """Name and token of a new member."""
        name = unique("member")
        return name, self.ok("POST", "/api/v1/users", json={"name": name})["token"]

    def token(self, kind: TokenKind, user: str = "admin", life_s: float | None = None) -> str:
        """A token no door hands out by itself."""

        def unit(session: Any) -> str:
            owner = user_by_name(session, user)
            assert owner is not None
            if kind is TokenKind.SESSION:
                return redeem_sign_in(session, make_token(session, owner, self.clock), self.clock)
            return make_token(session, owner, self.clock, kind, SIGN_IN_S if life_s is None else life_s)

        return self.wiring.db.write(unit)

    def registration_token(self) -> str:
        value = self.clock.new_token()
        row = Token(digest=digest_token(value), kind=TokenKind.REGISTRATION, created_at=self.clock.now())
        self.wiring.db.write(lambda s: s.add(row))
        return value

    # Work

    def repo_id(self, full_name: str) -> int:
        owner, _, name = full_name.partition("/")
        repo = self.wiring.db.read(lambda s: repo_by_name(s, owner, name))
        assert repo is not None and repo.id is not None
        return repo.id

    def working_copy(self, full_name: str | None = None) -> WorkingCopy:
        return WorkingCopy(self, full_name or f"local/{unique('repo')}", self.folder / unique("work"))

    def run(self, job: Job | None = None, *, repo: str = "", workflow: str = "train", **more: Any) -> str:
        """A run of one job, as a delivery would have made it."""
        return self.runs({workflow: job or IDLE}, repo=repo, **more)[workflow]

    def runs(
        self,
        jobs: Mapping[str, Job],
        *,
        repo: str = "",
        needs: Mapping[str, tuple[str, ...]] | None = None,
        **more: Any,
    ) -> dict[str, str]:
        repo = repo or self.shared_repo()
        while True:
            try:
                made = self._make(jobs, repo, needs or {}, more)
            except NameTaken:
                continue  # as a handler does: names are drawn again
            return {run.workflow: run.name for run in made}

    def _make(
        self, jobs: Mapping[str, Job], repo: str, needs: Mapping[str, tuple[str, ...]], more: dict[str, Any]
    ) -> list[Run]:
        plans = tuple(
            RunPlan(
                self.clock.new_name(),
                workflow,
                (job,),
                inputs=tuple(NeedInput(name) for name in needs.get(workflow, ())),
                **more,
            )
            for workflow, job in jobs.items()
        )
        plan = GroupPlan(
            self.clock.new_name(), self.repo_id(repo), self._shared_sha, Trigger.PUSH, plans, branch="main"
        )
        return self.wiring.db.write(lambda s: create_group(s, plan, self.clock.now()))

    _shared_sha: str = ""
    _shared_lock: threading.Lock = field(default_factory=threading.Lock)

    def shared_repo(self) -> str:
        """A repository with one commit and no workflows, for runs made without a push."""
        with self._shared_lock:
            if not self._shared_sha:
                copy = self.working_copy("local/shared")
                self._shared_sha = copy.commit({"README.md": "shared"})
                copy.push()
        return "local/shared"

    def get_run(self, name: str) -> dict[str, Any]:
        return self.ok("GET", f"/api/v1/runs/{name}")

    def runner(self, **capacity: Any) -> ARunner:
        name = unique("runner")
        has = {"cpu": 4, "memory": 8 << 30, "slots": 8, "labels": [name]} | capacity
        made = self.ok("POST", "/api/v1/runners", json={"name": name, "capacity": has, "version": "test"})
        return ARunner(self, name, made["token"], has)

    def attempt(self, job: Job | None = None, runner: ARunner | None = None, **more: Any) -> Held:
        """An attempt that a runner has accepted."""
        runner = runner or self.runner()
        run = self.run(runner.only(job), **more)
        return runner.take(run)


@dataclass
class ARunner:
    """A runner that does what it is told."""

    api: Api
    name: str
    token: str
    capacity: dict[str, Any]

    def only(self, job: Job | None = None) -> Job:
        """The job, for this runner alone."""
        return replace(job or Job((Command("true"),)), resources=Resources(labels=(self.name,)))

    def call(self, method: str, path: str, **more: Any) -> requests.Response:
        return self.api.call(method, path, self.token, **more)

    def poll(self, wait_s: float = 0) -> dict[str, Any]:
        answer = self.call("POST", "/api/v1/runner/poll", json={"capacity": self.capacity, "wait_s": wait_s})
        assert answer.ok, answer.text
        return answer.json()

    def offer(self, run: str) -> dict[str, Any]:
        return wait_for(lambda: next((o for o in self.poll(1)["offers"] if o["run"] == run), None))

    def take(self, run: str) -> Held:
        offer = self.offer(run)
        order = self.call("POST", f"/api/v1/attempts/{offer['attempt']}/accept")
        assert order.ok, order.text
        return Held(self, run, offer["attempt"], offer["lease"], order.json())


@dataclass
class Held:
    """An accepted attempt."""

    runner: ARunner
    run: str
    attempt: str
    lease: str
    order: dict[str, Any]

    def call(
        self, method: str, verb: str, *, token: str = "", lease: str | None = None, **more: Any
    ) -> requests.Response:
        headers = {LEASE_HEADER: self.lease if lease is None else lease} | more.pop("headers", {})
        path = f"/api/v1/attempts/{self.attempt}/{verb}"
        return self.runner.api.call(method, path, token or self.runner.token, headers=headers, **more)

    def ok(self, method: str, verb: str, **more: Any) -> Any:
        answer = self.call(method, verb, **more)
        assert answer.ok, f"{verb}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def state(self, state: str) -> None:
        self.ok("POST", "state", json={"state": state})

    def log(self, data: bytes, offset: int = 0) -> None:
        self.ok("PUT", f"log?offset={offset}", data=data)

    def finish(self, state: str = "succeeded", **more: Any) -> requests.Response:
        exit_code = {"exit_code": 0} if state == "succeeded" else {}
        return self.call("POST", "finish", json={"state": state} | exit_code | more)

    def end(self, state: str = "succeeded", **more: Any) -> None:
        """Runs and ends."""
        self.state("running")
        answer = self.finish(state, **more)
        assert answer.ok, answer.text

    def save(self, path: str, files: Mapping[str, bytes]) -> dict[str, Any]:
        """Stores files as an artifact, blobs first."""
        for data in files.values():
            self.ok("PUT", f"blobs/{sha256(data)}", data=data)
        return self.ok("POST", "artifacts", json={"path": path, "manifest": manifest_of(files).encode().decode()})

    @property
    def job(self) -> dict[str, Any]:
        return self.runner.api.get_run(self.run)["jobs"][0]


def manifest_of(files: Mapping[str, bytes]) -> Manifest:
    return Manifest(tuple(FileEntry(path, len(data), sha256(data)) for path, data in sorted(files.items())))


@dataclass
class WorkingCopy:
    """A clone as a person has one."""

    api: Api
    repo: str
    path: Path

    def __post_init__(self) -> None:
        self.path.mkdir(parents=True)
        self.git("init", "-q", "-b", "main")

    def address(self, token: str = ADMIN_TOKEN) -> str:
        return f"{self.api.url.replace('://', f'://any:{token}@')}/git/{self.repo}.git"

    def git(self, *args: str, fails: bool = False) -> str:
        done = subprocess.run(
            ["git", *args], cwd=self.path, env={**os.environ, **GIT_ENV}, capture_output=True, text=True, timeout=60
        )
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        return (done.stdout + done.stderr).strip()

    def commit(self, files: Mapping[str, str], message: str = "change") -> str:
        for name, text in files.items():
            target = self.path / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")

    def push(self, ref: str = "main", token: str = ADMIN_TOKEN, fails: bool = False) -> str:
        return self.git("push", "-q", self.address(token), ref, fails=fails)

    def runs(self) -> list[dict[str, Any]]:
        return self.api.ok("GET", f"/api/v1/runs?repo={self.repo}&limit=500")["runs"]


def routes_of(app: Any) -> Sequence[BaseRoute]:
    """Those of the application inside whatever wraps it."""
    while not isinstance(app, Starlette):
        app = app._app
    return app.routes


@contextmanager
def serve(folder: Path, **settings: Any) -> Iterator[Api]:
    """The whole server on its own data folder and port, until the end of the block."""
    clock = MovableClock()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        wanted = {"data": ready(folder / "data"), "admin_token": ADMIN_TOKEN, "port": port} | settings
        with start(Settings(**wanted), clock) as started:
            app = make_app(started.wiring)
            config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=2, ws="none")
            server = uvicorn.Server(config)
            thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
            thread.start()
            try:
                wait_for(lambda: server.started)
                with requests.Session() as http:
                    http.trust_env = False
                    http.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))  # no caller is another
                    yield Api(f"http://127.0.0.1:{port}", started.wiring, clock, http, folder, routes_of(app))
            finally:
                bus = started.wiring.bus
                if bus._loop is not None:
                    bus._loop.call_soon_threadsafe(bus.close)
                server.should_exit = True
                thread.join(15)
                assert not thread.is_alive(), "the server did not stop"
