"""The log of a run as one stream of bytes: its jobs in order, each job's attempts in order."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

from sqlmodel import Session
from starlette.concurrency import iterate_in_threadpool

from dstack.errors import NotFound
from dstack.server.bus import log_topic, run_topic, wait_for
from dstack.server.store.attempts import attempts_of_jobs
from dstack.server.store.jobs import jobs_of_run
from dstack.server.store.runs import run_by_name
from dstack.server.wiring import Wiring

_RECHECK_S = 15.0


@dataclass(frozen=True, slots=True)
class _Chain:
    """The attempts so far, all but the last ended; `ended` when no more can follow."""

    attempts: tuple[str, ...]
    ended: bool


class RunLog:
    """Offsets count over the whole chain; they are stable, since an attempt that has ended writes no more."""

    def __init__(self, wiring: Wiring, run: str, job: str = "") -> None:
        self._wiring, self._run, self._job = wiring, run, job

    def check(self, session: Session) -> None:
        """Raises NotFound, while the answer has not begun: later it could only break off."""
        self._chain(session)

    async def read(self, offset: int, *, follow: bool) -> AsyncIterator[bytes]:
        """The bytes from `offset`; with `follow`, new ones as they come, until the chain has ended."""
        bus, logs = self._wiring.bus, self._wiring.logs
        position = offset
        while True:
            chain = self._wiring.db.read(self._chain)
            topics = [run_topic(self._run), *(log_topic(attempt) for attempt in chain.attempts[-1:])]
            with bus.listen(*topics) as news:
                chain = self._wiring.db.read(self._chain)
                sizes = [logs.size(attempt) for attempt in chain.attempts]
                start = 0
                for attempt, size in zip(chain.attempts, sizes, strict=True):
                    if position < start + size:
                        async for piece in iterate_in_threadpool(self._bytes(attempt, position - start, size)):
                            position += len(piece)
                            yield piece
                    start += size
                if position >= start and (chain.ended or not follow or bus.is_closed):
                    return
                if position >= start:
                    await wait_for(news, _RECHECK_S)

    def _bytes(self, attempt: str, start: int, end: int) -> Iterator[bytes]:
        return self._wiring.logs.read(attempt, start, end)

    def _chain(self, session: Session) -> _Chain:
        run = run_by_name(session, self._run)
        if run is None:
            raise NotFound(f"there is no run {self._run}")
        jobs = [job for job in jobs_of_run(session, run.result_id) if self._job in ("", job.name)]
        if not jobs and self._job:
            raise NotFound(f"{self._run} has no job {self._job}")
        attempts = attempts_of_jobs(session, [job.id or 0 for job in jobs])
        chain: list[str] = []
        for job in jobs:
            chain += [attempt.id for attempt in attempts if attempt.job_id == job.id]
            if not job.state.is_final:
                return _Chain(tuple(chain), ended=False)
        return _Chain(tuple(chain), ended=True)
