"""The runner beside the server: a process of its own, registered by a token made for it, started again if it dies."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys

from sqlmodel import Session

from dstack.server.models import Token
from dstack.server.models.token import TokenKind
from dstack.server.store.people import digest_token
from dstack.server.wiring import Wiring

log = logging.getLogger(__name__)
_AGAIN_S = 5.0
_STOP_S = 30.0


class RunnerBeside:
    """`start` returns at once; `stop` lets its jobs end as stopped and waits for it."""

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring
        self._task: asyncio.Task[None] | None = None
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._keep_running(), name="runner beside")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        process = self._process
        if process is None or process.returncode is not None:
            return
        # The first asks it to drain, the second to stop its jobs too: nobody answers it any more.
        process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.2)
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), _STOP_S)
        except TimeoutError:
            process.kill()
            await process.wait()

    async def _keep_running(self) -> None:
        while True:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "dstack_runner", "start", env=self._environment()
            )
            code = await self._process.wait()
            log.warning("the runner beside the server ended (%s); starting it again", code, extra={"action": "runner"})
            await asyncio.sleep(_AGAIN_S)

    def _environment(self) -> dict[str, str]:
        settings, env = self._wiring.settings, dict(os.environ)
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
