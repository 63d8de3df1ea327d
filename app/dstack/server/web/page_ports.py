"""What the pages ask of the rest of the server, and nothing more: narrow protocols, all sync but the wait for a log.

A `viewer` is the name of the signed-in user. What a viewer may not see is answered as if it did not exist: None, or
left out of a list.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from starlette.requests import Request

from dstack.server.web.render.models import ArtifactData, AttemptData, Choices, RunData, RunFilter, RunList
from dstack.wire.api import RunnerView, TagView


@dataclass(frozen=True, slots=True)
class LogSize:
    """How many bytes of an attempt's log are stored; `ended` once the attempt is final and no more will come."""

    bytes: int
    ended: bool


class Views(Protocol):
    """The questions the pages ask."""

    def list_runs(self, viewer: str, wanted: RunFilter) -> RunList:
        """One page of runs. Raises Malformed for a cursor this server did not make."""

    def choices(self, viewer: str) -> Choices:
        """What the filters offer."""

    def get_run(self, viewer: str, name: str) -> RunData | None: ...

    def get_attempt(self, viewer: str, run: str, attempt_id: str) -> AttemptData | None:
        """The attempt, if it is one of this run; asked often, so it should cost one small query."""

    def list_tags(self, viewer: str, repo: str) -> list[TagView]:
        """The tags of a repo, or of all where `repo` is empty."""

    def list_runners(self, viewer: str) -> list[RunnerView]: ...

    def get_artifact(self, viewer: str, artifact_id: str) -> ArtifactData | None: ...

    def open_file(self, viewer: str, artifact_id: str, path: str) -> tuple[int, Iterator[bytes]] | None:
        """A file of an artifact: its size and its bytes in pieces."""

    def read_blob(self, digest: str) -> Iterator[bytes]:
        """The bytes of a file that an artifact the viewer may see lists by this digest."""

    def badge_state(self, viewer: str | None, repo: str, workflow: str, branch: str) -> str:
        """The state of the newest run (of the default branch, if none is named); empty where unknown or not public.
        `viewer` is None for someone not signed in, as a README's readers are."""


class Actions(Protocol):
    """What a page's buttons do. All raise NotFound, NotAllowed, Invalid or Conflict."""

    def stop_run(self, viewer: str, name: str, *, group: bool) -> None: ...

    def approve_run(self, viewer: str, name: str, *, budget: str) -> None:
        """Lets the runs of its pull request begin at its commit; `budget` reads `4gpu-h`, empty: no limit."""

    def restart_run(self, viewer: str, name: str) -> str:
        """Starts it again; the new run's name."""


class Logs(Protocol):
    """The bytes of logs by attempt id."""

    def size(self, attempt_id: str) -> LogSize: ...

    def read(self, attempt_id: str, start: int, end: int) -> bytes:
        """The bytes from `start` to before `end`, fewer where fewer are stored."""

    async def wait(self, attempt_id: str, offset: int, timeout_s: float) -> LogSize | None:
        """Returns as soon as more than `offset` bytes are stored or the log has ended, at the latest after
        `timeout_s`. None when the server is about to stop: the browser then comes back by itself."""


@dataclass(frozen=True, slots=True)
class Session:
    """A fresh sign-in, to be kept by the browser in a cookie for `max_age_s` seconds."""

    cookie: str
    value: str
    max_age_s: int
    secure: bool


class Guard(Protocol):
    """Who asks, and whether a form came from our own page."""

    def current_user(self, request: Request) -> str | None:
        """The signed-in user's name; None for anyone else."""

    def csrf_token(self, request: Request) -> str:
        """The token that forms of this session carry; empty without a session."""

    def check_csrf(self, request: Request, token: str) -> None:
        """Raises NotAllowed unless `token` is this session's. (Where a form came from is checked before.)"""

    def open_session(self, request: Request, *, token: str = "", code: str = "") -> Session:
        """Signs in by an access token or by the code of a printed link. Raises NotSignedIn for a wrong or used one,
        TooMany when there were too many tries from where the request came."""

    def close_session(self, request: Request) -> str:
        """Ends the session on the server; the name of the cookie to delete."""
