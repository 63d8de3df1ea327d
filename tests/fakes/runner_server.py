"""A real HTTP server that speaks the runner's side of the wire as faithfully as the real one, kept in memory.

Leases fence every write, everything may be repeated, and a bare Git repository is served by `git http-backend`.
Tests put orders in, steer it (stop, lose a lease, be down, refuse), and look at what came.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import secrets
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from dstack import errors
from dstack.wire.codec import decode, encode, to_dict
from dstack.wire.job import Job
from dstack.wire.manifest import FileEntry, Manifest, decode_manifest
from dstack.wire.pack import read_pack, write_pack
from dstack.wire.runner import (
    LEASE_HEADER,
    ArtifactSaved,
    BlobQuery,
    BlobsMissing,
    Finish,
    Input,
    MetricPoint,
    MetricsReport,
    Offer,
    Order,
    Poll,
    Polled,
    Registered,
    Registration,
    Renewal,
    Renewed,
    SaveArtifact,
    StateReport,
    Stop,
)
from dstack.wire.states import AttemptState, Reason

RUNNER_TOKEN = "runner-token"
REGISTRATION_TOKEN = "registration-token"
CLONE_TOKEN = "clone-token"


@dataclass
class FakeAttempt:
    """One attempt as the server sees it."""

    order: Order
    lease: str
    devices: tuple[str, ...] = ()
    offered: bool = False
    accepted: bool = False
    lost: bool = False
    stop: Stop | None = None
    states: list[StateReport] = field(default_factory=list)
    log: bytearray = field(default_factory=bytearray)
    points: list[MetricPoint] = field(default_factory=list)
    artifacts: dict[str, Manifest] = field(default_factory=dict)
    skipped: dict[str, tuple[str, ...]] = field(default_factory=dict)
    finish: Finish | None = None
    finishes: int = 0
    refused_writes: int = 0
    renewals: int = 0

    @property
    def text(self) -> str:
        return self.log.decode(errors="replace")


class FakeServer:
    """`start`, `stop` and `start` again keep everything, as a restarted server would."""

    def __init__(self, folder: Path) -> None:
        self.repo = folder / "repo.git"
        self.attempts: dict[str, FakeAttempt] = {}
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, bytes] = {}
        self.polls: list[Poll] = []
        self.registrations: list[Registration] = []
        self.runner_token = RUNNER_TOKEN
        self.unwell = 0  # so many calls are answered 503
        self.answer: Callable[[Request], Response | None] = lambda request: None  # a test's own answer to any call
        self.blob_bytes = 0  # content bytes received
        self.fetches = 0
        self._port = _free_port()
        self._key = secrets.token_hex(4)  # attempts are told apart on a whole machine, as real ones are
        self._thread: threading.Thread | None = None
        self._uvicorn: uvicorn.Server | None = None
        self._leaving = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    # Steering

    def start(self) -> FakeServer:
        config = uvicorn.Config(
            self._app(), host="127.0.0.1", port=self._port, log_level="error", ws="none", lifespan="off",
            timeout_graceful_shutdown=1,
        )  # fmt: skip
        self._leaving = False
        self._uvicorn = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._uvicorn.run, name="fake-server", daemon=True)
        self._thread.start()
        until(lambda: self._uvicorn is not None and self._uvicorn.started)
        return self

    def stop(self) -> None:
        if self._uvicorn is not None and self._thread is not None:
            self._leaving = True
            self._uvicorn.should_exit = True
            self._thread.join(10)
            self._uvicorn = self._thread = None

    def commit(self, files: dict[str, str | bytes], *, branch: str = "main") -> str:
        """Put a commit with exactly these files on top of a branch of the repository; its id."""
        if not self.repo.exists():
            _git("init", "-q", "--bare", "--initial-branch=main", str(self.repo), cwd=self.repo.parent)
            _git("config", "uploadpack.allowAnySHA1InWant", "true", cwd=self.repo)
        stream = bytearray()
        for number, content in enumerate(files.values(), 1):
            data = content.encode() if isinstance(content, str) else content
            stream += f"blob\nmark :{number}\ndata {len(data)}\n".encode() + data + b"\n"
        stream += (
            f"commit refs/heads/{branch}\ncommitter T <t@example.org> {int(time.time())} +0000\ndata 1\nx\n".encode()
        )
        if (
            subprocess.run(
                ["git", "rev-parse", "-q", "--verify", f"refs/heads/{branch}"], cwd=self.repo, capture_output=True
            ).returncode
            == 0
        ):
            stream += f"from refs/heads/{branch}^0\n".encode()
        stream += b"deleteall\n"
        for number, name in enumerate(files, 1):
            mode = "100755" if name.endswith(".sh") else "100644"
            stream += f"M {mode} :{number} {name}\n".encode()
        subprocess.run(["git", "fast-import", "--quiet", "--force"], input=bytes(stream), cwd=self.repo, check=True)
        return _git("rev-parse", f"refs/heads/{branch}", cwd=self.repo)

    def put(self, job: Job, sha: str, *, attempt: str = "", **more: object) -> FakeAttempt:
        """Queue a job: the next poll is offered it."""
        name = attempt or f"{self._key}-{len(self.attempts) + 1}"
        order = Order(
            attempt=name, number=1, job_id=f"job-{name}", run=f"run-{name}", repo="local/demo",
            clone_path="/git/local/demo.git", clone_token=CLONE_TOKEN, sha=sha, workflow="train", job=job,
            branch="main",
        )  # fmt: skip
        order = replace(order, **more)  # type: ignore[arg-type]
        self.attempts[name] = found = FakeAttempt(order, f"lease-{name}", order.devices)
        return found

    def artifact(self, files: dict[str, bytes]) -> Input:
        """Store an artifact as if an earlier run had made it; an input that mounts it."""
        entries = []
        for path, data in files.items():
            digest = hashlib.sha256(data).hexdigest()
            self.blobs[digest] = data
            entries.append(FileEntry(path, len(data), digest))
        manifest = Manifest(tuple(entries))
        raw = manifest.encode()
        digest = hashlib.sha256(raw).hexdigest()
        self.manifests[digest] = raw
        return Input(next(iter(files)).split("/")[0], digest, manifest.size, len(entries), source="prepare:latest")

    def ask_stop(self, attempt: FakeAttempt, grace_s: int = 10, reason: Reason = Reason.CANCELED_BY) -> None:
        attempt.stop = Stop(attempt.order.attempt, reason, grace_s)

    # The wire

    def _app(self) -> Starlette:
        one = "/api/v1/attempts/{attempt}"
        return Starlette(
            routes=[
                self._route("/api/v1/runners", self._register, "POST"),
                self._route("/api/v1/runner/poll", self._poll, "POST"),
                self._route("/api/v1/runner/renew", self._renew, "POST"),
                self._route(one + "/accept", self._accept, "POST"),
                self._route(one + "/state", self._state, "POST"),
                self._route(one + "/log", self._log, "PUT"),
                self._route(one + "/metrics", self._metrics, "POST"),
                self._route(one + "/blobs/missing", self._missing, "POST"),
                self._route(one + "/blobs/{digest}", self._put_blob, "PUT"),
                self._route(one + "/blobs/{digest}", self._get_blob, "GET"),
                self._route(one + "/packs", self._put_pack, "PUT"),
                self._route(one + "/packs/read", self._get_pack, "POST"),
                self._route(one + "/artifacts", self._save, "POST"),
                self._route(one + "/manifests/{digest}", self._manifest, "GET"),
                self._route(one + "/finish", self._finish, "POST"),
                Route("/git/{path:path}", self._git, methods=["GET", "POST"]),
            ]
        )

    def _route(self, path: str, handler: Callable[[Request, bytes], object], method: str) -> Route:
        async def door(request: Request) -> Response:
            try:
                body = await request.body()
                own = self.answer(request)
                if own is not None:
                    return own
                if self.unwell > 0:
                    self.unwell -= 1
                    raise errors.Unavailable("the server is unwell")
                self._authorize(request, path)
                result = handler(request, body)
                if asyncio.iscoroutine(result):
                    result = await result
                if isinstance(result, Response):
                    return result
                if isinstance(result, dict):
                    return JSONResponse(result)
                return (
                    Response(encode(result), media_type="application/json")
                    if result is not None
                    else Response(status_code=204)
                )
            except errors.DstackError as error:
                problem = {"error": error.code, "message": error.message, "hint": error.hint}
                if isinstance(error, errors.OffsetMismatch):
                    problem["expected"] = error.expected  # type: ignore[assignment]
                return JSONResponse(problem, status_code=error.status)

        return Route(path, door, methods=[method])

    def _authorize(self, request: Request, path: str) -> None:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        wanted = REGISTRATION_TOKEN if path == "/api/v1/runners" else self.runner_token
        if token != wanted:
            raise errors.NotSignedIn("no such token")

    def _attempt(self, request: Request, *, write: bool = True) -> FakeAttempt:
        found = self.attempts.get(request.path_params["attempt"])
        if found is None:
            raise errors.NotFound("no such attempt")
        if request.headers.get(LEASE_HEADER) != found.lease or found.lost:
            found.refused_writes += 1
            raise errors.LeaseLost("the lease is not yours")
        if write and found.finish is not None:
            raise errors.Conflict("the attempt has ended")
        return found

    def _register(self, request: Request, body: bytes) -> Registered:
        asked = decode(Registration, body)
        self.registrations.append(asked)
        return Registered("r1", asked.name, self.runner_token)

    async def _poll(self, request: Request, body: bytes) -> Polled:
        poll = decode(Poll, body)
        self.polls.append(poll)
        number = len(self.polls)
        deadline = time.monotonic() + poll.wait_s
        while True:
            if self._leaving or number < len(self.polls):
                return Polled()  # a newer poll of this runner takes its place: its connection may be dead
            answer = self._due(poll)
            if answer.offers or answer.stops or time.monotonic() >= deadline:
                return answer
            await asyncio.sleep(0.005)

    def _due(self, poll: Poll) -> Polled:
        busy = sum(1 for a in self.attempts.values() if a.offered and a.finish is None and not a.lost)
        offers = []
        for name, attempt in list(self.attempts.items()):
            if not attempt.offered and not poll.draining and busy + len(offers) < poll.capacity.slots:
                attempt.offered = True
                offers.append(Offer(name, attempt.lease, attempt.order.run, devices=attempt.devices))
        stops = [a.stop for a in self.attempts.values() if a.stop and a.finish is None and a.order.attempt in poll.live]
        for stop in stops:
            self.attempts[stop.attempt].stop = None
        return Polled(tuple(offers), tuple(stops))

    def _renew(self, request: Request, body: bytes) -> Renewed:
        held, stops = [], []
        for name, lease in decode(Renewal, body).leases.items():
            attempt = self.attempts.get(name)
            if attempt is None or attempt.lease != lease or attempt.lost:
                stops.append(Stop(name, Reason.RUNNER_LOST, 0, lost=True))
            else:
                attempt.renewals += 1
                held.append(name)
        return Renewed(tuple(held), tuple(stops))

    def _accept(self, request: Request, body: bytes) -> Order:
        attempt = self._attempt(request)
        attempt.accepted = True
        return attempt.order

    def _state(self, request: Request, body: bytes) -> None:
        self._attempt(request).states.append(decode(StateReport, body))

    def _log(self, request: Request, body: bytes) -> dict[str, int]:
        log = self._attempt(request).log
        offset = int(request.query_params["offset"])
        if offset > len(log):
            raise errors.OffsetMismatch("a gap", expected=len(log))
        both = min(len(log) - offset, len(body))
        if log[offset : offset + both] != body[:both]:
            raise errors.Conflict("other bytes are there")
        log += body[both:]
        return {"size": len(log)}

    def _metrics(self, request: Request, body: bytes) -> None:
        attempt = self._attempt(request)
        report = decode(MetricsReport, body)
        if report.offset > len(attempt.points):
            raise errors.OffsetMismatch("a gap", expected=len(attempt.points))
        attempt.points[report.offset :] = report.points

    def _missing(self, request: Request, body: bytes) -> BlobsMissing:
        self._attempt(request)
        return BlobsMissing(tuple(d for d in decode(BlobQuery, body).digests if d not in self.blobs))

    def _keep(self, digest: str, data: bytes) -> None:
        if hashlib.sha256(data).hexdigest() != digest:
            raise errors.Invalid("other bytes than the digest says")
        self.blobs[digest] = data
        self.blob_bytes += len(data)

    def _put_blob(self, request: Request, body: bytes) -> None:
        self._attempt(request)
        self._keep(request.path_params["digest"], body)

    def _put_pack(self, request: Request, body: bytes) -> None:
        self._attempt(request)
        for digest, data in read_pack([body]):
            self._keep(digest, data)

    def _get_blob(self, request: Request, body: bytes) -> Response:
        self._attempt(request, write=False)
        if request.path_params["digest"] not in self.blobs:
            raise errors.NotFound("no such blob")
        self.fetches += 1
        return Response(self.blobs[request.path_params["digest"]])

    def _get_pack(self, request: Request, body: bytes) -> Response:
        self._attempt(request, write=False)
        self.fetches += 1
        return Response(write_pack((d, self.blobs[d]) for d in decode(BlobQuery, body).digests))

    def _manifest(self, request: Request, body: bytes) -> Response:
        self._attempt(request, write=False)
        if request.path_params["digest"] not in self.manifests:
            raise errors.NotFound("no such manifest")
        return Response(self.manifests[request.path_params["digest"]])

    def _save(self, request: Request, body: bytes) -> ArtifactSaved:
        attempt = self._attempt(request)
        asked = decode(SaveArtifact, body)
        raw = asked.manifest.encode()
        manifest = decode_manifest(raw)
        lacking = [f.path for f in manifest.files if f.target is None and f.digest not in self.blobs]
        if lacking:
            raise errors.Invalid(f"blobs are missing: {lacking}")
        attempt.artifacts[asked.path] = manifest
        attempt.skipped[asked.path] = asked.skipped
        return ArtifactSaved(hashlib.sha256(raw).hexdigest(), manifest.size, len(manifest.files))

    def _finish(self, request: Request, body: bytes) -> None:
        finish = decode(Finish, body)
        attempt = self._attempt(request, write=False)
        attempt.finishes += 1
        if finish.state is AttemptState.SUCCEEDED and all(s.state is AttemptState.PREPARING for s in attempt.states):
            raise errors.Invalid("an attempt whose commands never ran cannot succeed")
        if attempt.finish is not None and to_dict(attempt.finish) != to_dict(finish):
            raise errors.Conflict("the attempt has ended otherwise")
        attempt.finish = finish

    async def _git(self, request: Request) -> Response:
        kind, _, value = request.headers.get("authorization", "").partition(" ")
        password = base64.b64decode(value).decode().partition(":")[2] if kind == "Basic" else ""
        if password != CLONE_TOKEN:
            return Response("sign in", status_code=401, headers={"WWW-Authenticate": "Basic"})
        body = await request.body()
        return await run_in_threadpool(self._backend, request, body)

    def _backend(self, request: Request, body: bytes) -> Response:
        path = request.path_params["path"].removeprefix("local/demo.git")
        env = {
            **{k: v for k, v in os.environ.items() if not k.startswith("GIT_")},
            "GIT_PROJECT_ROOT": str(self.repo), "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": path,
            "REQUEST_METHOD": request.method, "QUERY_STRING": request.url.query, "CONTENT_LENGTH": str(len(body)),
            "CONTENT_TYPE": request.headers.get("content-type", ""), "REMOTE_ADDR": "127.0.0.1", "REMOTE_USER": "r",
            "HTTP_CONTENT_ENCODING": request.headers.get("content-encoding", ""),
            "GIT_PROTOCOL": request.headers.get("git-protocol", ""), "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*",
        }  # fmt: skip
        done = subprocess.run(["git", "http-backend"], env=env, input=body, capture_output=True)
        head, _, rest = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        status = int(headers.pop("Status", "200").split()[0])
        return Response(rest, status_code=status, headers=headers)


def until(condition: Callable[[], object], within_s: float = 20.0, what: str = "") -> None:
    """Wait for a condition; fails loudly when it does not come."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s} s: {what or condition}")
        time.sleep(0.01)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _git(*args: str, cwd: Path) -> str:
    done = subprocess.run(["git", *args], cwd=cwd, check=True, capture_output=True, text=True)
    return done.stdout.strip()
