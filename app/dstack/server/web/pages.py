"""The pages people read and the buttons on them: thin handlers, each one question or one action.

What is shown comes through `page_ports.Views`; how it looks is `templates/` and `render/`. Ages and durations are of
the moment a page is made; the script asks for the same page again while something on it is still moving.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any
from urllib.parse import quote

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from dstack.errors import NotFound
from dstack.server.web.log_stream import EventStream, log_events, raw_log, start_offset
from dstack.server.web.log_window import LineIndexes, LogWindow, read_window
from dstack.server.web.page_choices import choose_attempt, filter_query, in_groups, read_filter, whole_number
from dstack.server.web.page_ports import Actions, Guard, Logs, Views
from dstack.server.web.page_shell import Shell, template_folder
from dstack.server.web.render.badge import badge
from dstack.server.web.render.models import ArtifactData, AttemptData, RunData
from dstack.server.web.security_headers import download_headers
from dstack.server.web.sign_in import SignIn
from dstack.server.web.tar_stream import tar_pieces
from dstack.wire.states import FINAL_STATES


class Pages:
    """All pages of the server."""

    def __init__(
        self,
        *,
        views: Views,
        actions: Actions,
        logs: Logs,
        guard: Guard,
        clock: Callable[[], datetime],
        public_url: str,
    ) -> None:
        self._views, self._actions, self._logs = views, actions, logs
        self._indexes = LineIndexes(logs)
        self.shell = Shell(guard, clock, public_url)

    def routes(self) -> list[BaseRoute]:
        """Every address of the pages. The router that takes them must not redirect slashes: it would trust the Host."""
        edge = self.shell.edge
        return [
            Route("/", edge(self.runs), methods=["GET"]),
            Route("/runs", edge(self.runs), methods=["GET"]),  # where reports link to
            Route("/runs/{name}", edge(self.run), methods=["GET"]),
            Route("/runs/{name}/log", edge(self.log), methods=["GET"]),
            Route("/runs/{name}/log/stream", edge(self.log_stream), methods=["GET"]),
            Route("/runs/{name}/log/raw", edge(self.log_raw), methods=["GET"]),
            Route("/runs/{name}/stop", edge(self.stop), methods=["POST"]),
            Route("/runs/{name}/approve", edge(self.approve), methods=["POST"]),
            Route("/runs/{name}/restart", edge(self.restart), methods=["POST"]),
            Route("/artifacts/{id}", edge(self.artifact), methods=["GET"]),
            Route("/artifacts/{id}/tar", edge(self.tar), methods=["GET"]),
            Route("/artifacts/{id}/files/{path:path}", edge(self.file), methods=["GET"]),
            Route("/tags", edge(self.tags), methods=["GET"]),
            Route("/runners", edge(self.runners), methods=["GET"]),
            Route("/badge/{owner}/{name}.svg", edge(self.badge), methods=["GET"]),
            *SignIn(self.shell).routes(),
            Mount("/static", StaticFiles(directory=template_folder() / "static")),
        ]

    async def runs(self, request: Request) -> Response:
        wanted = read_filter(request)

        def load(viewer: str) -> dict[str, Any]:
            found = self._views.list_runs(viewer, wanted)
            return {
                "groups": in_groups(found.rows),
                "next": filter_query(wanted, cursor=found.next) if found.next else "",
                "wanted": wanted,
                "with_state": lambda state: filter_query(wanted, state=state),
                "without": lambda name: filter_query(wanted, **{name: ""}),
                "choices": self._views.choices(viewer),
                "is_moving": any(row.run.state not in FINAL_STATES for row in found.rows),
            }

        return await self.shell.show(request, "pages/runs.html", load)

    async def run(self, request: Request) -> Response:
        """The page of a run; with `live=1`, as the script asks again and again, without the lines of its log."""
        name, wanted = request.path_params["name"], request.query_params.get("attempt", "")
        is_again = "live" in request.query_params

        def load(viewer: str) -> dict[str, Any]:
            data = self._run(viewer, name)
            attempt = choose_attempt(data, wanted)
            window, has_ended = self._tail(attempt) if attempt and not is_again else (None, True)
            return {
                "data": data, "run": data.row.run, "attempt": attempt, "window": window, "log_ended": has_ended,
                "is_moving": data.row.run.state not in FINAL_STATES,
            }  # fmt: skip

        return await self.shell.show(request, "pages/run.html", load)

    async def log(self, request: Request) -> Response:
        """A stretch of a log as a page of its own; with `fragment=1`, its lines alone, for the script."""
        name, attempt_id = request.path_params["name"], request.query_params.get("attempt", "")
        before, line = whole_number(request, "before"), whole_number(request, "line")
        template = "parts/log_lines.html" if "fragment" in request.query_params else "pages/log.html"

        def load(viewer: str) -> dict[str, Any]:
            attempt, size = self._attempt(viewer, name, attempt_id), self._logs.size(attempt_id)
            window = read_window(
                lambda start, end: self._logs.read(attempt_id, start, end), self._indexes.of(attempt_id), size.bytes,
                ended=size.ended, before=before, line=line,
            )  # fmt: skip
            return {"name": name, "attempt": attempt, "window": window, "line": line}

        return await self.shell.show(request, template, load)

    async def log_stream(self, request: Request) -> Response:
        attempt_id = await to_thread.run_sync(self._asked_attempt, request)
        if request.method == "HEAD":
            return Response(media_type=EventStream.media_type)
        size = await to_thread.run_sync(self._logs.size, attempt_id)
        offset = start_offset(request, size.bytes)
        return EventStream(log_events(self._logs, self._indexes.of(attempt_id), attempt_id, offset))

    async def log_raw(self, request: Request) -> Response:
        def work() -> Response:
            attempt = self._attempt(
                self.shell.viewer(request), request.path_params["name"], request.query_params.get("attempt", "")
            )
            name = "-".join(filter(None, (request.path_params["name"], attempt.job, str(attempt.number))))
            return raw_log(self._logs, attempt.id, f"{name}.log")

        return await to_thread.run_sync(work)

    async def stop(self, request: Request) -> Response:
        name, fields = request.path_params["name"], await self.shell.posted(request)
        group = fields.get("group") == "1"
        await self.shell.act(request, fields, lambda viewer: self._actions.stop_run(viewer, name, group=group))
        return RedirectResponse(f"/runs/{quote(name, safe='')}", status_code=303)

    async def approve(self, request: Request) -> Response:
        name, fields = request.path_params["name"], await self.shell.posted(request)
        budget = fields.get("budget", "").strip()
        await self.shell.act(request, fields, lambda viewer: self._actions.approve_run(viewer, name, budget=budget))
        return RedirectResponse(f"/runs/{quote(name, safe='')}", status_code=303)

    async def restart(self, request: Request) -> Response:
        name, fields = request.path_params["name"], await self.shell.posted(request)
        new = await self.shell.act(request, fields, lambda viewer: self._actions.restart_run(viewer, name))
        return RedirectResponse(f"/runs/{quote(str(new), safe='')}", status_code=303)

    async def artifact(self, request: Request) -> Response:
        artifact_id = request.path_params["id"]
        return await self.shell.show(
            request, "pages/artifact.html", lambda viewer: {"data": self._artifact(viewer, artifact_id)}
        )

    async def tar(self, request: Request) -> Response:
        """The whole artifact as one file, made while it is sent."""

        def work() -> Response:
            viewer = self.shell.viewer(request)
            data = self._artifact(viewer, request.path_params["id"])
            name = data.artifact.path.strip("/*").replace("/", "-").replace("*", "") or "artifact"
            pieces = tar_pieces(data.files, lambda file: self._views.read_blob(file.digest))
            return StreamingResponse(pieces, headers=download_headers(f"{data.run}-{name}.tar"))

        return await to_thread.run_sync(work)

    async def file(self, request: Request) -> Response:
        artifact_id, path = request.path_params["id"], request.path_params["path"]
        found = await to_thread.run_sync(lambda: self._views.open_file(self.shell.viewer(request), artifact_id, path))
        if found is None:
            raise NotFound("There is no such file in this artifact.")
        size, pieces = found
        return StreamingResponse(pieces, headers=download_headers(path) | {"content-length": str(size)})

    async def tags(self, request: Request) -> Response:
        repo = request.query_params.get("repo", "")
        return await self.shell.show(
            request, "pages/tags.html", lambda viewer: {"tags": self._views.list_tags(viewer, repo), "repo": repo}
        )

    async def runners(self, request: Request) -> Response:
        return await self.shell.show(
            request, "pages/runners.html",
            lambda viewer: {"runners": self._views.list_runners(viewer), "is_moving": True},
        )  # fmt: skip

    async def badge(self, request: Request) -> Response:
        repo = f"{request.path_params['owner']}/{request.path_params['name']}"
        workflow, branch = (request.query_params.get(key, "") for key in ("workflow", "branch"))

        def work() -> str:
            viewer = self.shell.guard.current_user(request)
            return badge(workflow, self._views.badge_state(viewer, repo, workflow, branch))

        svg = await to_thread.run_sync(work)
        headers = {"cache-control": "no-cache", "content-security-policy": "default-src 'none'"}
        return Response(svg, media_type="image/svg+xml", headers=headers)

    def _artifact(self, viewer: str, artifact_id: str) -> ArtifactData:
        data = self._views.get_artifact(viewer, artifact_id)
        if data is None:
            raise NotFound("There is no such artifact.", "It may have been pruned.")
        return data

    def _run(self, viewer: str, name: str) -> RunData:
        data = self._views.get_run(viewer, name)
        if data is None:
            raise NotFound("There is no such run.", "It may have been pruned, or the name is mistyped.")
        return data

    def _attempt(self, viewer: str, run: str, attempt_id: str) -> AttemptData:
        attempt = self._views.get_attempt(viewer, run, attempt_id) if attempt_id else None
        if attempt is None:
            raise NotFound("There is no such attempt of this run.")
        return attempt

    def _asked_attempt(self, request: Request) -> str:
        asked = request.query_params.get("attempt", "")
        return self._attempt(self.shell.viewer(request), request.path_params["name"], asked).id

    def _tail(self, attempt: AttemptData) -> tuple[LogWindow, bool]:
        """The last lines of an attempt's log, and whether it has ended."""
        size = self._logs.size(attempt.id)
        window = read_window(
            lambda start, end: self._logs.read(attempt.id, start, end), self._indexes.of(attempt.id), size.bytes,
            ended=size.ended,
        )  # fmt: skip
        return window, size.ended
