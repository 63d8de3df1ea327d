"""Sends what the forge shows of us, in lanes: the writes of an installation one after another, installations side by
side. What is written is each sender's; here is only which lanes have something to do."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from sqlmodel import Session

from dstack.errors import DstackError
from dstack.server.bus import OUTBOX, wait_for
from dstack.server.outbox_lane import SENDERS, Lane, targets_due
from dstack.server.outbox_sending import Sender
from dstack.server.store.outbox import next_due
from dstack.server.wiring import Wiring

_AT_ONCE = 8  # threads for all lanes: a forge that hangs must not take those that answer people
_LONGEST_SLEEP_S = 30.0
log = logging.getLogger(__name__)


class OutboxLanes:
    """All lanes, each driven as long as something is due in it."""

    def __init__(self, wiring: Wiring, senders: Mapping[str, Sender] = SENDERS) -> None:
        self._wiring, self._senders = wiring, senders
        self._lanes: dict[int, Lane] = {}
        self._busy: set[int] = set()
        self._threads = ThreadPoolExecutor(_AT_ONCE, "dstack-forge")

    async def send(self) -> None:
        """Until nothing is due for a while. Without an App everything waits, at no cost."""
        if not self._wiring.forge.is_connected:
            return
        with self._wiring.bus.listen(OUTBOX) as news:
            async with asyncio.TaskGroup() as lanes:
                while True:
                    news.clear()
                    due, soonest_s = await self._wiring.db.read_async(self._look)
                    for installation in due - self._busy:
                        self._busy.add(installation)
                        lanes.create_task(self._drive(installation, news))
                    if not self._busy and soonest_s > _LONGEST_SLEEP_S:
                        return
                    await wait_for(news, min(max(soonest_s, 0.05), _LONGEST_SLEEP_S))

    def _look(self, session: Session) -> tuple[set[int], float]:
        """Installations with something to send, and in how many seconds the next will be due."""
        now = self._wiring.clock.now()
        following = next_due(session, self._senders, now)
        due = {installation for _, installation in targets_due(session, self._senders, now)}
        return due, following - now if following is not None else float("inf")

    async def _drive(self, installation: int, news: asyncio.Event) -> None:
        lane = self._lanes.setdefault(installation, Lane(self._wiring, installation, self._senders))
        try:
            while (wait := await self._step(lane)) is not None:
                await asyncio.sleep(min(wait, _LONGEST_SLEEP_S))
        finally:
            self._busy.discard(installation)
            news.set()  # a mark that came after the last look found the lane still busy

    async def _step(self, lane: Lane) -> float | None:
        """A lane outlives whatever one write does."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, lane.step)
        except DstackError as error:
            log.warning("the outbox waits: %s", error.message, extra={"action": "forge"})
            return 1.0
        except Exception:
            log.exception("a lane broke", extra={"action": "forge"})
            return 5.0
