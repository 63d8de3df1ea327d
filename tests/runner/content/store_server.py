"""A real store behind real sockets: the server's content doors on uvicorn, for tests of the runner's side."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from dstack.errors import DstackError, Invalid, LeaseLost, OffsetMismatch, Unavailable
from dstack.server.gateways.logs_local import LocalLogs
from dstack.server.gateways.objects_local import LocalObjects
from dstack.server.web import content
from dstack.wire.codec import decode, to_dict
from dstack.wire.manifest import decode_manifest
from dstack.wire.runner import ArtifactSaved, SaveArtifact


@dataclass
class Store:
    """The server side of one test. `before` may raise for a call; `received` counts body bytes by door."""

    objects: LocalObjects
    logs: LocalLogs
    url: str = ""
    artifacts: dict[str, SaveArtifact] = field(default_factory=dict)
    received: dict[str, int] = field(default_factory=dict)
    before: Callable[[Request], None] = lambda request: None

    def lose_lease(self) -> None:
        def refuse(request: Request) -> None:
            raise LeaseLost("attempt a1 is another runner's now")

        self.before = refuse

    def fail(self, times: int) -> None:
        """Answer 503 to the next `times` calls."""
        left = [times]

        def refuse(request: Request) -> None:
            if left[0] > 0:
                left[0] -= 1
                raise Unavailable("restarting")

        self.before = refuse

    async def door(self, request: Request) -> Response:
        name = request.scope["route"].name
        self.before(request)
        self.received[name] = self.received.get(name, 0) + int(request.headers.get("content-length", 0))
        digest = request.path_params.get("digest", "")
        match name:
            case "log":
                return await content.put_log(request, request.path_params["attempt"], self.logs)
            case "missing":
                return await content.missing(request, self.objects)
            case "put_blob":
                return await content.put_blob(request, digest, self.objects)
            case "put_pack":
                return await content.put_pack(request, self.objects)
            case "get_blob":
                return await content.get_blob(request, digest, self.objects)
            case "get_pack":
                return await content.get_pack(request, self.objects)
            case "get_manifest":
                return await content.get_manifest(request, digest, self.objects)
        return await self.save(request)

    async def save(self, request: Request) -> Response:
        artifact = decode(SaveArtifact, await content.read_body(request, 64 * 1024 * 1024))
        manifest = decode_manifest(artifact.manifest.encode())
        if self.objects.missing(f.digest for f in manifest.files if f.target is None):
            raise Invalid("blobs are missing")
        self.objects.put(manifest.digest, artifact.manifest.encode())
        self.objects.sync()
        self.artifacts[artifact.path] = artifact
        return JSONResponse(to_dict(ArtifactSaved(manifest.digest, manifest.size, len(manifest.files))))


async def say(request: Request, error: Exception) -> Response:
    assert isinstance(error, DstackError)
    body: dict[str, object] = {"error": error.code, "message": error.message, "hint": error.hint}
    if isinstance(error, OffsetMismatch):
        body["expected"] = error.expected
    return JSONResponse(body, error.status)


def app(current: Callable[[], Store]) -> Starlette:
    """The doors, over the store of the test that runs now: one server serves all tests of a session."""

    async def door(request: Request) -> Response:
        return await current().door(request)

    at = "/api/v1/attempts/{attempt}"
    routes = [
        Route(at + "/log", door, methods=["PUT"], name="log"),
        Route(at + "/blobs/missing", door, methods=["POST"], name="missing"),
        Route(at + "/blobs/{digest}", door, methods=["PUT"], name="put_blob"),
        Route(at + "/blobs/{digest}", door, methods=["GET"], name="get_blob"),
        Route(at + "/packs", door, methods=["PUT"], name="put_pack"),
        Route(at + "/packs/read", door, methods=["POST"], name="get_pack"),
        Route(at + "/manifests/{digest}", door, methods=["GET"], name="get_manifest"),
        Route(at + "/artifacts", door, methods=["POST"], name="save_artifact"),
    ]
    return Starlette(routes=routes, exception_handlers={DstackError: say})


class Serving:
    """uvicorn in a thread, on a port that stays the same over `stop` and `start`."""

    def __init__(self, application: Starlette) -> None:
        self._app = application
        self.port = 0

    def start(self) -> None:
        config = uvicorn.Config(self._app, "127.0.0.1", self.port, log_level="error", lifespan="off")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        deadline = time.monotonic() + 10
        while not self._server.started:
            assert time.monotonic() < deadline, "the test server did not start"
            time.sleep(0.005)
        self.port = self._server.servers[0].sockets[0].getsockname()[1]

    def stop(self) -> None:
        self._server.should_exit = True
        self._server.force_exit = True
        self._thread.join(10)
        assert not self._thread.is_alive()


def main(folder: str, port: str) -> None:
    """Serve a folder from a process of its own, so that it can be killed."""
    store = Store(LocalObjects(Path(folder) / "objects"), LocalLogs(Path(folder) / "logs"))
    uvicorn.run(app(lambda: store), host="127.0.0.1", port=int(port), log_level="error", lifespan="off")


if __name__ == "__main__":
    main(*sys.argv[1:])
