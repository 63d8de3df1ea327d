"""The server as a Git remote: smart HTTP at /git/OWNER/NAME.git, an ASGI application of its own.

Knows the three addresses git clients use and the order of a push. Who may do what (`authorize`) and what a push
starts (`on_push`) come from outside. Mount it outside of middleware that buffers bodies or limits their size.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from dstack.errors import DstackError, Invalid, NotAllowed, NotFound, NotSignedIn
from dstack.git.backend import RECEIVE, UPLOAD, backend_environment, serve_settings
from dstack.git.names import check_repo_name
from dstack.git.pushes import RefUpdate, refusals
from dstack.git.run import git
from dstack.server.gateways.hooks import write_hooks
from dstack.server.gateways.local_git import LocalGit
from dstack.server.web.git_hook import HookAnswer, HookPipes
from dstack.server.web.git_one_commit import held_headers, hold_to_one
from dstack.server.web.git_process import GitProcess, Receive, Send, send_text

log = logging.getLogger(__name__)

_SETTLE_S = 5.0
_CLOSE_S = 8.0
_MAX_ASK = 64 * 1024 * 1024  # a fetch names what it wants and has: 50 bytes a commit

Scope = MutableMapping[str, Any]


@dataclass(frozen=True, slots=True)
class GitAccess:
    """What the caller may do to one repo. `only` is the one commit that may be read, with what leads to it; empty: all.
    `may_push_ref` is asked for every ref of a push, by its full name; `why_not` is what the pusher reads about one that
    is refused."""

    repo_id: str
    user: str
    may_push: bool = False
    may_push_ref: Callable[[str], bool] = lambda ref: True
    why_not: str = "you may not push this ref"
    only: str = ""


@dataclass(frozen=True, slots=True)
class GitLimits:
    """How much one caller may take: git processes at once, bytes a push, seconds without movement, and the seconds a
    push waits for what it started before it says "queued"."""

    processes: int = 16
    push_bytes: int = 4 * 1024**3
    idle_s: float = 60.0
    answer_s: float = 2.0


@dataclass(frozen=True, slots=True)
class GitCall:
    """One request of a git client."""

    owner: str
    name: str
    service: str
    advertise: bool

    @property
    def writes(self) -> bool:
        return self.service == RECEIVE


Authorize = Callable[[str | None, str, str, bool], Awaitable[GitAccess]]
OnPush = Callable[[str, str, Sequence[RefUpdate]], Awaitable[Sequence[str]]]


class GitRemote:
    """`authorize(token, owner, name, write)` answers with a GitAccess or raises NotSignedIn, NotAllowed or NotFound;
    an admin's first push makes the repo there. `on_push(repo_id, user, updates)` answers with lines for the pusher;
    it goes on by itself when it takes longer than a push waits, and a failure of it never undoes the push."""

    def __init__(
        self,
        repositories: LocalGit,
        authorize: Authorize,
        on_push: OnPush,
        hooks: Path,
        limits: GitLimits | None = None,
    ) -> None:
        self._repositories = repositories
        self._authorize = authorize
        self._on_push = on_push
        self._limits = limits or GitLimits()
        self._hooks = write_hooks(hooks.absolute())
        self._argv = _backend_argv(repositories.root)
        self._slots = asyncio.Semaphore(self._limits.processes)
        self._serving: set[asyncio.Task[Any]] = set()
        self._told: set[asyncio.Task[Sequence[str]]] = set()  # a task nobody holds may vanish before it is done

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"the git remote speaks http only, not {scope['type']}")
        headers = _headers(scope)
        try:
            call = read_call(scope["method"], _path(scope), scope.get("query_string", b"").decode("latin-1"))
            access = await self._authorize(read_token(headers), call.owner, call.name, call.writes)
            self._check(call, access)
        except DstackError as error:
            await _refuse(send, error)
            return
        request = asyncio.current_task()
        assert request is not None
        self._serving.add(request)
        try:
            async with self._slots:
                await self._serve(call, access, headers, receive, send)
        finally:
            self._serving.discard(request)

    async def close(self) -> None:
        """Wait for requests to end their git processes and for what pushes have started. Called when the server stops
        (lifespan), after requests were told to end: a second cancellation would leave their processes to themselves."""
        if waited := {*self._serving, *self._told}:
            await asyncio.wait(waited, timeout=_CLOSE_S)

    def _check(self, call: GitCall, access: GitAccess) -> None:
        if call.writes and not access.may_push:
            raise NotAllowed(f"you may read {call.owner}/{call.name}, not push to it")
        if not self._repositories.exists(access.repo_id):
            raise NotFound(f"there is no repository {call.owner}/{call.name} on this server")

    async def _serve(
        self, call: GitCall, access: GitAccess, headers: Mapping[str, str], receive: Receive, send: Send
    ) -> None:
        if access.only:
            try:
                headers = held_headers(headers)
                if not call.advertise:
                    headers, receive = await hold_to_one(access.only, headers, receive, self._limits.idle_s)
            except DstackError as error:
                await _refuse(send, error)
                return
        repository = self._repositories.path(access.repo_id)
        env = backend_environment(
            repository,
            settings=serve_settings(repository, self._hooks, self._limits.push_bytes),
            service=call.service,
            advertise=call.advertise,
            user=access.user,
            headers=headers,
        )
        if call.advertise or not call.writes:
            process = await GitProcess.start(self._argv, env, idle_s=self._limits.idle_s, max_body=_MAX_ASK)
            await process.serve(receive, send)
        else:
            await self._receive_push(access, env, receive, send)

    async def _receive_push(self, access: GitAccess, env: Mapping[str, str], receive: Receive, send: Send) -> None:
        pipes = HookPipes()
        try:
            process = await GitProcess.start(
                self._argv,
                {**env, **pipes.environment()},
                handed=pipes.handed,
                idle_s=self._limits.idle_s,
                max_body=2 * self._limits.push_bytes + _MAX_ASK,
                finishes_alone=True,
            )
        except BaseException:
            pipes.close()
            raise
        finally:
            pipes.close_handed()

        async def asked(hook: str, updates: tuple[RefUpdate, ...]) -> HookAnswer:
            return await (self._accept if hook == "pre-receive" else self._announce)(access, updates)

        conversation = asyncio.create_task(pipes.converse(asked))
        try:
            await process.serve(receive, send)
        finally:
            await _settle(conversation)

    async def _accept(self, access: GitAccess, updates: tuple[RefUpdate, ...]) -> HookAnswer:
        """Before anything changes: may these refs move?"""
        refused = refusals(updates, access.may_push_ref, access.why_not)
        return HookAnswer(["dstack: push refused", *refused[:20]] if refused else (), passes=not refused)

    async def _announce(self, access: GitAccess, updates: tuple[RefUpdate, ...]) -> HookAnswer:
        """The refs have moved and are on the disk: tell, and wait a little for what that started."""
        await asyncio.to_thread(self._repositories.adopt_head, access.repo_id, updates)
        task = asyncio.ensure_future(self._on_push(access.repo_id, access.user, updates))
        self._told.add(task)
        task.add_done_callback(self._forget)
        done, _ = await asyncio.wait({task}, timeout=self._limits.answer_s)
        if not done:
            return HookAnswer(["dstack: queued"])
        error = task.exception()
        if error is None:
            return HookAnswer([f"dstack: {line}" for line in task.result()])
        if isinstance(error, DstackError):
            return HookAnswer([f"dstack: {error.message}", *([f"dstack: {error.hint}"] if error.hint else [])])
        return HookAnswer(["dstack: stored; the server will look at this push in a moment"])

    def _forget(self, task: asyncio.Task[Sequence[str]]) -> None:
        self._told.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, DstackError):
            log.error("a push was not taken up", extra={"action": "on_push"}, exc_info=error)


def read_call(method: str, path: str, query: str) -> GitCall:
    """The request below the mount, `/OWNER/NAME.git/info/refs` or `/OWNER/NAME.git/git-...-pack`. Raises NotFound."""
    parts = path.split("/")
    services = (UPLOAD, RECEIVE)
    wanted = parse_qs(query).get("service", [""])[0]
    if len(parts) == 5 and parts[3:] == ["info", "refs"] and method == "GET" and wanted in services:
        service, advertise = wanted, True
    elif len(parts) == 4 and parts[3] in services and method == "POST":
        service, advertise = parts[3], False
    else:
        raise NotFound("this is a Git remote for git 1.6.6 and newer", "use git clone ADDRESS")
    try:
        owner, name = check_repo_name(f"{parts[1]}/{parts[2].removesuffix('.git')}").split("/")
    except Invalid as error:
        raise NotFound(error.message, error.hint) from None
    return GitCall(owner, name, service, advertise)


def read_token(headers: Mapping[str, str]) -> str | None:
    """The token of a request: the password of Basic (any user name), or a Bearer. None when there is none."""
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip() or None
    if scheme.lower() != "basic":
        return None
    try:
        user, _, password = base64.b64decode(value.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return password or user or None


async def _settle(conversation: asyncio.Task[None]) -> None:
    """The conversation ends with the processes that hold its pipes; it is not waited for longer than it can matter."""
    await asyncio.wait({conversation}, timeout=_SETTLE_S)
    conversation.cancel()
    (error,) = await asyncio.gather(conversation, return_exceptions=True)
    if isinstance(error, Exception):
        log.error("a push hook was not answered", extra={"action": "push_hook"}, exc_info=error)


def _backend_argv(cwd: Path) -> list[str]:
    """The program itself where it can be named: `git http-backend` starts one process more."""
    program = Path(git(["--exec-path"], cwd=cwd).decode().strip()) / "git-http-backend"
    return [str(program)] if program.is_file() else ["git", "http-backend"]


def _path(scope: Scope) -> str:
    return str(scope["path"]).removeprefix(str(scope.get("root_path", "")))


def _headers(scope: Scope) -> dict[str, str]:
    return {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in scope["headers"]}


async def _refuse(send: Send, error: DstackError) -> None:
    ask = [(b"www-authenticate", b'Basic realm="dstack", charset="UTF-8"')] if isinstance(error, NotSignedIn) else []
    text = f"{error.message}\n{error.hint}\n" if error.hint else f"{error.message}\n"
    await send_text(send, error.status, text, ask)
