"""The runner beside the server: a process of its own, registered by a token made for it, started again if it dies."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

from sqlmodel import Session

from dstack.server.models import Token
from dstack.server.models.token import TokenKind
from dstack.server.store.people import digest_token
from dstack.server.wiring import Wiring

log = logging.getLogger(__name__)
_AGAIN_S = 5.0
_MOST_PAUSE_S = 30.0
_IDLE_STOP_S = 3.0
_JOBS_STOP_S = 30.0


class RunnerBeside:
    """`start` returns at once. `stop` ends it; with `leave_jobs`, a runner that has jobs goes on with them on its own,
    takes no new ones, and leaves when they have ended: the server may be back before."""

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring
        self._task: asyncio.Task[None] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._keep_running(), name="runner beside")

    async def stop(self, *, leave_jobs: bool) -> None:
        """Call while the server still answers, so that the runner can say how its jobs ended."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        if self._process is None or not self._is_running():
            return
        self._process.send_signal(signal.SIGTERM)
        if await self._has_ended_in(_IDLE_STOP_S if leave_jobs else 0.5):
            return
        if leave_jobs:
            log.info("the runner goes on with its jobs and leaves when they have ended", extra={"action": "runner"})
            return
        self._process.send_signal(signal.SIGTERM)  # the second one stops the jobs too
        if not await self._has_ended_in(_JOBS_STOP_S):
            self.kill()

    def kill(self) -> None:
        """End it at once; its jobs die with it."""
        if self._process is not None and self._is_running():
            self._process.kill()
            self._process.wait()

    def _is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    async def _has_ended_in(self, seconds: float) -> bool:
        process = self._process
        assert process is not None
        with suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(process.wait, seconds)
        return not self._is_running()

    async def _keep_running(self) -> None:
        pause_s = _AGAIN_S
        while True:
            began = time.monotonic()
            # In a group of its own: Ctrl-C is for the server, which tells the runner what it means.
            self._process = process = subprocess.Popen(
                [sys.executable, "-m", "dstack_runner", "start"], env=self._environment(), process_group=0
            )
            while process.poll() is None:
                await asyncio.sleep(0.5)
            # One that an earlier server left with its jobs still holds the folder: ask again, less and less often.
            pause_s = min(pause_s * 2, _MOST_PAUSE_S) if time.monotonic() - began < _AGAIN_S else _AGAIN_S
            log.warning("the runner beside the server ended (exit code %s)", process.returncode)
            await asyncio.sleep(pause_s)

    def _environment(self) -> dict[str, str]:
        settings = self._wiring.settings
        # An admin's token is not for it to have: a job that runs as the same user can read its environment.
        env = {name: value for name, value in os.environ.items() if name != "DSTACK_ADMIN_TOKEN"}
        env.setdefault("DSTACK_RUNNER_DATA", str(settings.data / "runner"))
        return env | {"DSTACK_SERVER": settings.local_url, "DSTACK_TOKEN": self._registration_token()}

    def _registration_token(self) -> str:
        clock = self._wiring.clock
        token = clock.new_token()

        def unit(session: Session) -> None:
            now = clock.now()
            row = Token(digest=digest_token(token), kind=TokenKind.REGISTRATION, created_at=now, expires_at=now + 3600)
            session.add(row)

        self._wiring.db.write(unit)
        return token
