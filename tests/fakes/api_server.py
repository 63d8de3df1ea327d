"""A small server that speaks the client API on a free port of this machine: what the CLI talks to in its own tests.

Runs are dicts the test puts there; `Trouble` plays a server in difficulties. The real server is tried in acceptance.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

from dstack.errors import NotSignedIn
from dstack.server.gateways.local_git import LocalGit
from dstack.server.web.git_remote import GitAccess, GitRemote
from dstack.wire.api import RunRequest
from dstack.wire.codec import from_dict

TOKEN = "good-token"
FINAL = ("succeeded", "failed", "stopped", "skipped")


def make_run(name: str, **changes: Any) -> dict[str, Any]:
    """A run as the API shows it."""
    run: dict[str, Any] = {
        "name": name,
        "group": "g1",
        "needs": [],
        "repo": "local/demo",
        "workflow": "train",
        "state": "succeeded",
        "reason": "",
        "sha": "a" * 40,
        "branch": "main",
        "trigger": "push",
        "variables": {"lr": "0.1"},
        "metrics": {"accuracy": 0.953},
        "verdict": None,
        "tags": [],
        "created_at": "2026-05-04T12:00:00Z",
        "started_at": "2026-05-04T12:00:01Z",
        "finished_at": "2026-05-04T12:00:05Z",
        "restarted_from": None,
        "jobs": [],
        "headline": "accuracy",
    }
    return {**run, **changes}


@dataclass
class Trouble:
    """What goes wrong next: `answers` are given first, in order; the log is cut at each offset of `cuts`, once."""

    answers: list[Response | None] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    hold: threading.Event = field(default_factory=threading.Event)


class Host:
    """One uvicorn for many tests; each test puts its own server behind it."""

    def __init__(self, port: int = 0, app: Any = None) -> None:
        self.app = app
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port: int = self._listener.getsockname()[1]
        config = uvicorn.Config(
            self._answer,
            log_level="critical",
            interface="asgi3",
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._listener],), daemon=True)
        self._thread.start()
        wait_for(lambda: self._server.started)

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)
        self._listener.close()


class ApiServer:
    """The running fake. `seen` records every call as (method, path with query, headers, body)."""

    def __init__(self, folder: Path, host: Host) -> None:
        self.runs: dict[str, dict[str, Any]] = {}
        self.logs: dict[str, bytes] = {}
        self.artifacts: dict[str, list[dict[str, Any]]] = {}
        self.contents: dict[str, dict[str, bytes]] = {}
        self.wrong_digests: set[str] = set()
        self.secrets: dict[str, str] = {}
        self.tags: list[dict[str, Any]] = []
        self.started: dict[str, list[dict[str, Any]]] = {}
        self.requests: list[dict[str, Any]] = []
        self.trouble = Trouble()
        self.seen: list[tuple[str, str, dict[str, str], bytes]] = []
        self.repositories = LocalGit(folder / "repositories")
        remote = GitRemote(self.repositories, self._authorize, self._on_push, folder / "hooks")
        self.port, self.url = host.port, f"http://127.0.0.1:{host.port}"
        host.app = Starlette(routes=[Mount("/git", app=remote), *self._routes()])

    def add_run(self, name: str, log: bytes = b"", **changes: Any) -> dict[str, Any]:
        self.runs[name] = make_run(name, **changes)
        self.logs[name] = log
        return self.runs[name]

    def add_artifact(self, run: str, artifact_id: str, path: str, files: dict[str, bytes], **extra: Any) -> None:
        size = sum(map(len, files.values()))
        view = {"path": path, "digest": "d" * 64, "bytes": size, "files": len(files), "id": artifact_id, **extra}
        self.artifacts.setdefault(run, []).append(view)
        self.contents[artifact_id] = files

    def calls(self, method: str, part: str) -> list[tuple[str, str, dict[str, str], bytes]]:
        return [call for call in self.seen if call[0] == method and part in call[1]]

    def _routes(self) -> list[Route]:
        table: list[tuple[str, str, Callable[[Request], Any]]] = [
            ("GET", "/healthz", lambda r: {"ok": True}),
            ("GET", "/api/v1/server", lambda r: {"user": "ada", "role": "admin", "version": "0", "url": self.url}),
            ("GET", "/api/v1/runs", self._list_runs),
            ("POST", "/api/v1/runs", self._start),
            ("GET", "/api/v1/runs/{name}", lambda r: self.runs[r.path_params["name"]]),
            ("GET", "/api/v1/runs/{name}/wait", self._wait),
            ("POST", "/api/v1/runs/{name}/stop", self._stop),
            ("POST", "/api/v1/runs/{name}/restart", self._restart),
            ("GET", "/api/v1/runs/{name}/log", self._log),
            ("GET", "/api/v1/runs/{name}/artifacts", lambda r: self.artifacts.get(r.path_params["name"], [])),
            ("GET", "/api/v1/artifacts/{id}/files", self._files),
            ("GET", "/api/v1/artifacts/{id}/files/{path:path}", self._file),
            ("GET", "/api/v1/tags", lambda r: self.tags),
            ("PUT", "/api/v1/repos/{owner}/{name}/tags/{workflow}/{tag}", self._set_tag),
            ("DELETE", "/api/v1/repos/{owner}/{name}/tags/{workflow}/{tag}", lambda r: Response(status_code=204)),
            ("GET", "/api/v1/repos", lambda r: [self._repo("local/demo")]),
            ("POST", "/api/v1/repos", lambda r: self._repo("local/new")),
            ("GET", "/api/v1/repos/{owner}/{name}/secrets", self._list_secrets),
            ("PUT", "/api/v1/repos/{owner}/{name}/secrets/{secret}", self._set_secret),
            ("DELETE", "/api/v1/repos/{owner}/{name}/secrets/{secret}", lambda r: Response(status_code=204)),
            ("GET", "/api/v1/runners", lambda r: [RUNNER]),
            ("DELETE", "/api/v1/runners/{name}", lambda r: Response(status_code=204)),
            ("GET", "/api/v1/users", lambda r: [USER]),
            ("POST", "/api/v1/users", lambda r: {**USER, "name": "bob", "role": "member", "token": "fresh"}),
            ("DELETE", "/api/v1/users/{name}", lambda r: Response(status_code=204)),
            ("POST", "/api/v1/users/{name}/token", lambda r: {**USER, "token": "renewed"}),
            ("POST", "/api/v1/prune", self._prune),
        ]
        return [Route(path, self._door(answer), methods=[method]) for method, path, answer in table]

    def _door(self, answer: Callable[[Request], Any]) -> Callable[[Request], Any]:
        async def handle(request: Request) -> Response:
            body = await request.body()
            path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
            self.seen.append((request.method, path, dict(request.headers), body))
            if self.trouble.answers and (response := self.trouble.answers.pop(0)) is not None:
                return response
            if request.url.path != "/healthz" and request.headers.get("authorization") != f"Bearer {TOKEN}":
                return refusal(401, "not_signed_in", "the token is unknown or expired")
            request.state.data = json.loads(body) if body else {}
            try:
                result = answer(request)
            except KeyError as error:
                return refusal(404, "not_found", f"there is no {error.args[0]}")
            result = await result if asyncio.iscoroutine(result) else result
            return result if isinstance(result, Response) else JSONResponse(result)

        return handle

    def _list_runs(self, request: Request) -> Any:
        query = request.query_params
        runs = list(reversed(self.runs.values()))
        for key in ("repo", "workflow", "branch", "state"):
            runs = [run for run in runs if not query.get(key) or run[key] == query[key]]
        start, limit = int(query.get("cursor") or 0), min(int(query["limit"]), 2)  # small pages: all must be fetched
        rest = len(runs) > start + limit
        return {"runs": runs[start : start + limit], "next": str(start + limit) if rest else None}

    def _start(self, request: Request) -> Any:
        data = request.state.data
        from_dict(RunRequest, data)
        self.requests.append(data)
        if data["idempotency_key"] not in self.started:
            name = f"new-run-{len(self.started) + 1}"
            run = self.add_run(name, b"hello\n", workflow=data["workflow"], sha=data["sha"])
            self.started[data["idempotency_key"]] = [run]
        return JSONResponse({"runs": self.started[data["idempotency_key"]], "next": None}, status_code=201)

    async def _wait(self, request: Request) -> Any:
        run = self.runs[request.path_params["name"]]
        deadline = time.monotonic() + int(request.query_params["timeout_s"])
        while run["state"] not in FINAL and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        return run

    def _stop(self, request: Request) -> Any:
        run = self.runs[request.path_params["name"]]
        run.update(state="stopped", reason="canceled_by")
        return run

    def _restart(self, request: Request) -> Any:
        old = self.runs[request.path_params["name"]]
        run = self.add_run("again-1", b"again\n", restarted_from=old["name"])
        return {"runs": [run], "next": None}

    def _log(self, request: Request) -> Any:
        name = request.path_params["name"]
        offset, follow = int(request.query_params.get("offset") or 0), bool(request.query_params.get("follow"))
        self.runs[name]
        return StreamingResponse(
            self._bytes_of(name, offset, follow), headers={"Dstack-Log-Offset": str(offset)}, media_type="text/plain"
        )

    async def _bytes_of(self, name: str, offset: int, follow: bool) -> AsyncIterator[bytes]:
        while True:
            log = self.logs[name]
            cut = next((c for c in self.trouble.cuts if c >= offset), None)
            end = len(log) if cut is None else min(len(log), cut)
            while offset < end:
                yield log[offset : min(end, offset + 65536)]
                offset = min(end, offset + 65536)
            if cut is not None and offset >= cut:
                self.trouble.cuts.remove(cut)
                raise ConnectionAbortedError("the test cuts the line here")
            if not follow or (self.runs[name]["state"] in FINAL and offset >= len(self.logs[name])):
                return
            await asyncio.sleep(0.01)

    def _files(self, request: Request) -> Any:
        files = self.contents[request.path_params["id"]]
        return [
            {"path": path, "target": data[5:].decode(), "size": 0, "digest": "", "mode": 0o644}
            if data.startswith(b"link:")
            else {"path": path, "size": len(data), "digest": self._digest(path, data), "mode": 0o644}
            for path, data in files.items()
        ]

    def _digest(self, path: str, data: bytes) -> str:
        return hashlib.sha256(b"x" if path in self.wrong_digests else data).hexdigest()

    def _file(self, request: Request) -> Any:
        data = self.contents[request.path_params["id"]][request.path_params["path"]]
        asked = request.headers.get("range")
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        cut = self.trouble.cuts.pop(0) if self.trouble.cuts else None

        async def stream() -> AsyncIterator[bytes]:
            yield data[start:] if cut is None else data[start:cut]
            if cut is not None:
                raise ConnectionAbortedError("the test cuts the line here")

        headers = {"Content-Length": str(len(data) - start)}
        return StreamingResponse(stream(), status_code=206 if asked else 200, headers=headers)

    def _set_tag(self, request: Request) -> Any:
        p = request.path_params
        return self._tag(f"{p['workflow']}:{p['tag']}", request.state.data["run"])

    def _tag(self, tag: str, run: str) -> dict[str, Any]:
        moved = {"moved_at": "2026-05-04T12:00:00Z", "moved_by": "ada"}
        return {"repo": "local/demo", "tag": tag, "run": run, "sha": "a" * 40, "artifacts": [], **moved}

    def _repo(self, name: str) -> dict[str, Any]:
        clone = f"{self.url}/git/{name}.git"
        return {"name": name, "default_branch": "main", "clone_url": clone, "created_at": "", "runs": 3}

    def _list_secrets(self, request: Request) -> Any:
        return [{"name": name, "updated_at": "", "updated_by": "ada"} for name in self.secrets]

    def _set_secret(self, request: Request) -> Any:
        self.secrets[request.path_params["secret"]] = request.state.data["value"]
        return Response(status_code=204)

    def _prune(self, request: Request) -> Any:
        return {"runs": 1, "artifacts": 2, "blobs": 3, "bytes": 4096, "dry_run": request.state.data["dry_run"]}

    async def _authorize(self, token: str | None, owner: str, name: str, write: bool) -> GitAccess:
        if token != TOKEN:
            raise NotSignedIn("unknown token")
        repo_id = f"{owner}-{name}"
        if not self.repositories.exists(repo_id):
            self.repositories.create(repo_id)
        return GitAccess(repo_id, "ada", True)

    async def _on_push(self, repo_id: str, user: str, updates: object) -> list[str]:
        return []


RUNNER = {
    "name": "box", "state": "online", "cpu": 8, "memory": 64 * 1024**3, "slots": 2, "labels": ["big"], "jobs": ["j"],
    "last_seen_at": "", "version": "0", "isolated": True,
    "devices": [{"id": str(i), "name": "A100", "memory": 40 * 1024**3, "busy": "", "job": "j" * i} for i in range(2)],
}  # fmt: skip
USER = {"name": "ada", "role": "admin", "created_at": "2026-05-04T12:00:00Z", "token": None}


def refusal(status: int, code: str, message: str, hint: str = "", **headers: str) -> Response:
    return JSONResponse({"error": code, "message": message, "hint": hint}, status_code=status, headers=headers)


def page(status: int, text: str = "<html>", **headers: str) -> Response:
    return PlainTextResponse(text, status_code=status, headers=headers)


def wait_for(condition: Callable[[], object], timeout_s: float = 15.0) -> None:
    """Until `condition` holds; the deadline fails the test."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)
