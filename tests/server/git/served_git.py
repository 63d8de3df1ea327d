"""A real server with the Git remote on a free port of this machine, and real git clients in a temporary folder."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount

from dstack.errors import NotAllowed, NotFound, NotSignedIn
from dstack.git.pushes import RefUpdate
from dstack.server.gateways.local_git import LocalGit
from dstack.server.web.git_remote import GitAccess, GitLimits, GitRemote

WRITER, READER = "writer-token", "reader-token"


@dataclass
class Door:
    """What the tests' server allows and tells; the tests change it while it runs."""

    repositories: LocalGit
    pushes: list[tuple[str, str, tuple[RefUpdate, ...]]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    error: Exception | None = None
    takes_s: float = 0.0
    may_push_ref: Callable[[str], bool] = lambda ref: True
    told: threading.Event = field(default_factory=threading.Event)

    async def authorize(self, token: str | None, owner: str, name: str, write: bool) -> GitAccess:
        if token not in (WRITER, READER):
            raise NotSignedIn("unknown token", "make one: dstack users add NAME")
        repo_id = f"{owner}-{name}".replace(".", "_")
        if not self.repositories.exists(repo_id):
            if not (write and token == WRITER):
                raise NotFound(f"there is no repository {owner}/{name}")
            self.repositories.create(repo_id)
        if write and token == READER and name == "forbidden":
            raise NotAllowed("not here")
        return GitAccess(repo_id, "ada", token == WRITER, self.may_push_ref)

    async def on_push(self, repo_id: str, user: str, updates: Sequence[RefUpdate]) -> list[str]:
        self.pushes.append((repo_id, user, tuple(updates)))
        await asyncio.sleep(self.takes_s)
        self.told.set()
        if self.error:
            raise self.error
        return self.lines


@dataclass
class Served:
    """The running server: `url(name)` is the address of a repository, `door` what the tests see and set."""

    door: Door
    remote: GitRemote | None
    port: int

    @property
    def repositories(self) -> LocalGit:
        return self.door.repositories

    def url(self, name: str = "local/demo", token: str = WRITER) -> str:
        return f"http://any:{token}@127.0.0.1:{self.port}/git/{name}.git"


class Host:
    """One uvicorn for all tests; each test puts its own remote behind it."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.remote: GitRemote | None = None
        app = Starlette(routes=[Mount("/git", app=self.answer)], lifespan=self.lifespan)
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, args=([self.listener],), daemon=True)
        self.thread.start()
        wait_for(lambda: self.server.started)

    @contextlib.asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        yield
        if self.remote:
            await self.remote.close()

    async def answer(self, scope: Any, receive: Any, send: Any) -> None:
        assert self.remote is not None
        await self.remote(scope, receive, send)

    def serve(self, root: Path, limits: GitLimits | None = None) -> Served:
        door = Door(LocalGit(root / "repositories"))
        self.remote = GitRemote(door.repositories, door.authorize, door.on_push, root / "hooks", limits)
        return Served(door, self.remote, self.listener.getsockname()[1])

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(10)
        self.listener.close()


def wait_for(condition: Callable[[], object], timeout_s: float = 10.0) -> None:
    """Until `condition` holds; the deadline fails the test."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


class Clone:
    """A person's clone, with a home of its own."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url
        folder.mkdir(parents=True)
        self.git("init", "--quiet", "--initial-branch=main")
        self.git("remote", "add", "origin", url)

    def run(self, *args: str, check: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
        home = {"HOME": str(self.folder.parent), "GIT_TERMINAL_PROMPT": "0", "GIT_CONFIG_NOSYSTEM": "1"}
        names = {
            f"GIT_{who}": "ada@x.org" for who in ("AUTHOR_NAME", "AUTHOR_EMAIL", "COMMITTER_NAME", "COMMITTER_EMAIL")
        }
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
        return subprocess.run(
            ["git", *args],
            cwd=self.folder,
            env={**inherited, **home, **names, "LC_ALL": "C.UTF-8", **env},
            check=check,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def git(self, *args: str) -> str:
        return self.run(*args).stdout.strip()

    def commit(self, message: str = "change", **files: str) -> str:
        for name, text in (files or {"train.py": message}).items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")

    def push(self, *refspecs: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run("push", "origin", *(refspecs or ("HEAD:refs/heads/main",)), check=check)


if __name__ == "__main__":  # a server in a process of its own, for tests that kill it
    alone = Host()
    print(alone.serve(Path(sys.argv[1])).port, flush=True)
    alone.thread.join()
