"""Stand-ins for what the pages ask of the server: runs and growing logs in memory, a door with one user."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from starlette.requests import Request

from dstack.errors import Conflict, Malformed, NotAllowed, NotFound, NotSignedIn
from dstack.server.web.page_ports import LogSize, Session
from dstack.server.web.render.models import ArtifactData, AttemptData, Choices, RunData, RunFilter, RunList
from dstack.wire.api import RunnerView, TagView
from dstack.wire.states import FINAL_STATES

COOKIE = "dstack_session"
TOKEN = "dst_good"
CSRF = "csrf-of-ada"


@dataclass
class FakeViews:
    """Answers from what the test put in; pages of `page_size` runs, the cursor is a number of rows."""

    runs: list[RunData] = field(default_factory=list)
    tags: list[TagView] = field(default_factory=list)
    runners: list[RunnerView] = field(default_factory=list)
    artifacts: dict[str, ArtifactData] = field(default_factory=dict)
    files: dict[tuple[str, str], bytes] = field(default_factory=dict)
    hidden: set[str] = field(default_factory=set)
    page_size: int = 20

    def list_runs(self, viewer: str, wanted: RunFilter) -> RunList:
        if wanted.cursor and not wanted.cursor.isdigit():
            raise Malformed("The cursor is not one this server made.")
        rows = [data.row for data in self.runs if self._fits(data, wanted)]
        start = int(wanted.cursor or 0)
        end = start + self.page_size
        return RunList(rows[start:end], str(end) if end < len(rows) else None)

    def _fits(self, data: RunData, wanted: RunFilter) -> bool:
        run = data.row.run
        state = not wanted.state or run.state == wanted.state
        if wanted.state == "active":
            state = run.state not in FINAL_STATES
        named = all(
            not getattr(wanted, key) or getattr(wanted, key) == getattr(run, key)
            for key in ("repo", "workflow", "branch", "trigger")
        )
        named = named and wanted.pr in ("", str(run.pull_request)) and wanted.sha in ("", run.sha)
        return state and named and run.name not in self.hidden

    def choices(self, viewer: str) -> Choices:
        runs = [data.row.run for data in self.runs]
        return Choices(
            *(sorted({getattr(run, key) for run in runs}) for key in ("repo", "workflow", "branch", "trigger"))
        )

    def get_run(self, viewer: str, name: str) -> RunData | None:
        return next((data for data in self.runs if data.row.run.name == name and name not in self.hidden), None)

    def get_attempt(self, viewer: str, run: str, attempt_id: str) -> AttemptData | None:
        data = self.get_run(viewer, run)
        return next((attempt for attempt in data.attempts if attempt.id == attempt_id), None) if data else None

    def list_tags(self, viewer: str, repo: str) -> list[TagView]:
        return [tag for tag in self.tags if not repo or tag.repo == repo]

    def list_runners(self, viewer: str) -> list[RunnerView]:
        return self.runners

    def get_artifact(self, viewer: str, artifact_id: str) -> ArtifactData | None:
        return self.artifacts.get(artifact_id)

    def open_file(self, viewer: str, artifact_id: str, path: str) -> tuple[int, Iterator[bytes]] | None:
        data = self.files.get((artifact_id, path))
        return None if data is None else (len(data), iter([data]))

    def read_blob(self, digest: str) -> Iterator[bytes]:
        places = ((a, file.path) for a, data in self.artifacts.items() for file in data.files if file.digest == digest)
        return iter([self.files[next(places)]])

    def badge_state(self, viewer: str | None, repo: str, workflow: str, branch: str) -> str:
        for data in self.runs:
            run = data.row.run
            if run.repo == repo and workflow in ("", run.workflow) and branch in ("", run.branch):
                return run.state
        return ""


@dataclass
class FakeActions:
    done: list[tuple[str, ...]] = field(default_factory=list)

    def stop_run(self, viewer: str, name: str, *, group: bool) -> None:
        if name == "final-run-1":
            raise Conflict("final-run-1 has ended already.", "Nothing was changed.")
        self.done.append(("stop", viewer, name, str(group)))

    def approve_run(self, viewer: str, name: str, *, budget: str) -> None:
        self.done.append(("approve", viewer, name, budget))

    def restart_run(self, viewer: str, name: str) -> str:
        if name == "no-such-run":
            raise NotFound("There is no such run.")
        self.done.append(("restart", viewer, name))
        return "next-run-2"


class FakeLogs:
    """Logs in memory; `append` wakes whoever waits, from any thread."""

    def __init__(self) -> None:
        self._data: dict[str, bytearray] = {}
        self._ended: set[str] = set()
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
        self._lock = threading.Lock()
        self.closing = False
        self.waits = 0

    def append(self, attempt_id: str, data: bytes, *, ended: bool = False) -> None:
        with self._lock:
            self._data.setdefault(attempt_id, bytearray()).extend(data)
            if ended:
                self._ended.add(attempt_id)
            self._wake()

    def close(self) -> None:
        with self._lock:
            self.closing = True
            self._wake()

    def _wake(self) -> None:
        for loop, event in self._waiting:
            if not loop.is_closed():
                loop.call_soon_threadsafe(event.set)
        self._waiting.clear()

    def size(self, attempt_id: str) -> LogSize:
        return LogSize(len(self._data.get(attempt_id, b"")), attempt_id in self._ended)

    def read(self, attempt_id: str, start: int, end: int) -> bytes:
        return bytes(self._data.get(attempt_id, bytearray())[start:end])

    async def wait(self, attempt_id: str, offset: int, timeout_s: float) -> LogSize | None:
        event = asyncio.Event()
        with self._lock:
            size = self.size(attempt_id)
            if self.closing:
                return None
            if size.bytes > offset or size.ended:
                return size
            self._waiting.append((asyncio.get_running_loop(), event))
            self.waits += 1
        try:
            await asyncio.wait_for(event.wait(), timeout_s)
        except TimeoutError:
            pass
        return None if self.closing else self.size(attempt_id)


class FakeGuard:
    """One user, `ada`, whose cookie says so."""

    def __init__(self) -> None:
        self.codes = {"once"}

    def current_user(self, request: Request) -> str | None:
        return "ada" if request.cookies.get(COOKIE) == "session-of-ada" else None

    def csrf_token(self, request: Request) -> str:
        return CSRF

    def check_csrf(self, request: Request, token: str) -> None:
        if token != CSRF:
            raise NotAllowed("This form is out of date.", "Load the page again and try once more.")

    def open_session(self, request: Request, *, token: str = "", code: str = "") -> Session:
        if code in self.codes:
            self.codes.remove(code)
        elif token != TOKEN:
            raise NotSignedIn("This token or link is not known here.", "Tokens are made by `dstack users add`.")
        return Session(COOKIE, "session-of-ada", 3600, secure=False)

    def close_session(self, request: Request) -> str:
        return COOKIE
