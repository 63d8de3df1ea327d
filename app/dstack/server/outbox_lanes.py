"""Sends what the forge shows of us, in lanes: the writes of an installation one after another, installations side by
side. What is written is each sender's; here is only who comes next, how fast, and what a refusal leads to.

A sender is a generator `send(wiring, mark)`. It renders from the state as it is now and yields one callable per write,
which does the HTTP request and records it (`store.reports`) in one go; nothing to yield means nothing to do. Between
two of them the lane rests, and something more urgent may go first: the generator is then closed, and begun anew later.
A crash may come anywhere, so what is made is looked for before it is made again. A `ForgeRefused` of a write is raised
at its `yield`: a sender may answer with another write (shorter text); one that does not catch it has its mark parked.
A generator may return the time (seconds since the epoch) at which its target is to be looked at again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from sqlmodel import Session

from dstack.errors import DstackError, ForgeBusy, ForgeDown, ForgeRefused, NotConnected
from dstack.server.bus import OUTBOX, wait_for
from dstack.server.decide.pacing import Pace, backoff_s
from dstack.server.models import OutboxMark
from dstack.server.services import (
    push_notes,
    send_checks,
    send_comments,
    send_issues,
    send_reactions,
    send_replies,
    send_statuses,
)
from dstack.server.store import reports
from dstack.server.store.outbox import (
    CHECK,
    COMMENT,
    FORGE_NOTES,
    ISSUE,
    REACTION,
    REPLY,
    STATUS,
    due_targets,
    mark_by_target,
    mark_later,
    next_due,
    postpone_mark,
)
from dstack.server.wiring import Wiring

Write = Callable[[], None]
Sender = Callable[[Wiring, OutboxMark], Iterator[Write]]

SENDERS: dict[str, Sender] = {
    REACTION: send_reactions.send,
    REPLY: send_replies.send,
    STATUS: send_statuses.send,
    CHECK: send_checks.send,
    COMMENT: send_comments.send,
    ISSUE: send_issues.send,
    FORGE_NOTES: push_notes.send,
}
# What people wait for comes first; statuses of commits where something ended go before the others.
_ORDER = {kind: place for place, kind in enumerate((REACTION, REPLY, STATUS, CHECK, COMMENT, ISSUE, FORGE_NOTES))}
_NOT_CONNECTED_S = 60.0
_AT_ONCE = 8  # threads for all lanes: a forge that hangs must not take those that answer people
_LONGEST_SLEEP_S = 30.0
_BROKEN_S = 30.0
log = logging.getLogger(__name__)


@dataclass
class _Sending:
    """A generator under way. `pending` is the write it answered a refusal with."""

    mark: OutboxMark
    writes: Iterator[Write]
    pending: Write | None = None
    again_at: float | None = None

    def next(self) -> Write | None:
        """None at its end."""
        if self.pending is not None:
            write, self.pending = self.pending, None
            return write
        try:
            return next(self.writes)
        except StopIteration as end:
            self.again_at = end.value
            return None

    def answer_refusal(self, refused: ForgeRefused) -> bool:
        """True when it goes on with another write. Raises ForgeRefused when it does not know better."""
        if not isinstance(self.writes, Generator):
            raise refused
        try:
            self.pending = self.writes.throw(refused)
        except StopIteration as end:
            self.again_at = end.value
            return False
        return True

    def close(self) -> None:
        if isinstance(self.writes, Generator):
            self.writes.close()


class Lane:
    """The writes of one installation. Not thread-safe: one thread at a time steps it."""

    def __init__(self, wiring: Wiring, installation: int, senders: Mapping[str, Sender] = SENDERS) -> None:
        self._wiring, self._installation, self._senders = wiring, installation, senders
        self._pace = Pace()
        self._open: _Sending | None = None

    def step(self) -> float | None:
        """Make the next write, if its time has come. Answers how many seconds to wait for the one after it; None when
        nothing is due. Raises Unavailable when our own database is at fault."""
        while self._wiring.forge.is_connected:
            if (wait := self._pace.wait_s(self._now())) > 0:
                return wait
            sending = self._choose()
            if sending is None:
                return None
            self._advance(sending)
        return None

    def _now(self) -> float:
        return self._wiring.clock.now()

    def _choose(self) -> _Sending | None:
        """The generator under way, unless its target changed or something is more urgent."""
        if self._open is not None and self._open.pending is not None:
            return self._open
        mark = self._wiring.db.read(self._most_urgent)
        known = self._open
        if known is not None and mark is not None and _is_same(known.mark, mark):
            return known
        self._drop()
        if mark is not None:
            self._open = _Sending(mark, self._senders[mark.kind](self._wiring, mark))
        return self._open

    def _most_urgent(self, session: Session) -> OutboxMark | None:
        due = [mark for mark, lane in _due(session, self._senders, self._now()) if lane == self._installation]
        first = min((_ORDER[kind] for kind, _ in due), default=None)
        foremost = [(kind, target) for kind, target in due if _ORDER[kind] == first]
        if not foremost:
            return None
        kind, target = foremost[0]
        if kind == STATUS:
            ended = reports.commits_with_an_end(session, {t.partition(":")[2] for _, t in foremost})
            target = next((t for _, t in foremost if t.partition(":")[2] in ended), target)
        return mark_by_target(session, kind, target)

    def _advance(self, sending: _Sending) -> None:
        """One write, or the end of the generator; afterwards the lane knows how long to rest."""
        mark = sending.mark
        try:
            write = sending.next()
            if write is not None:
                self._write(sending, write)
            else:
                self._finish(sending)
        except ForgeRefused as error:
            log.warning("%s %s: %s", mark.kind, mark.target, error.message, extra={"action": "forge"})
            self._drop()
            self._wiring.db.write(partial(reports.park, mark=mark, problem=_problem(error)))
        except ForgeBusy as error:
            self._pace = self._pace.after_busy(self._now(), error.retry_after)
            self._drop()
        except ForgeDown as error:
            jitter = self._wiring.clock.random.random()
            self._pace = self._pace.after_silence(self._now(), self._gap, jitter)
            self._postpone(mark, backoff_s(mark.tries, jitter), _problem(error))
        except NotConnected as error:
            self._pace = self._pace.after_busy(self._now(), _NOT_CONNECTED_S)
            self._postpone(mark, _NOT_CONNECTED_S, _problem(error))
        except DstackError:
            self._drop()
            raise
        except Exception as error:
            log.exception("%s %s could not be rendered", mark.kind, mark.target, extra={"action": "forge"})
            self._postpone(mark, _BROKEN_S, f"internal error: {type(error).__name__}")

    def _write(self, sending: _Sending, write: Write) -> None:
        try:
            write()
        except ForgeRefused as refused:
            self._pace = self._pace.after_answer(self._now(), self._gap)
            if not sending.answer_refusal(refused):
                self._finish(sending)
        else:
            self._pace = self._pace.after_answer(self._now(), self._gap)

    def _finish(self, sending: _Sending) -> None:
        mark, again_at = sending.mark, sending.again_at
        self._open = None

        def unit(session: Session) -> None:
            reports.finish(session, mark)
            if again_at is not None:
                now = self._now()
                mark_later(session, mark.kind, mark.target, max(again_at, now + 1), now)

        self._wiring.db.write(unit)

    def _postpone(self, mark: OutboxMark, seconds: float, problem: str) -> None:
        self._drop()
        self._wiring.db.write(lambda s: postpone_mark(s, mark, self._now() + seconds, problem))

    def _drop(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None

    @property
    def _gap(self) -> float:
        return self._wiring.settings.github_write_gap_s


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
        due = {installation for _, installation in _due(session, self._senders, now)}
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


def _due(session: Session, senders: Mapping[str, Sender], now: float) -> list[tuple[tuple[str, str], int]]:
    """Marks that are due, each with its installation; those of repos where we have none wait."""
    lanes = reports.installations_of_repos(session)
    found = []
    for kind, target in due_targets(session, senders.keys(), now):
        installation = lanes.get(int(target.partition(":")[0]))
        if installation is not None:
            found.append(((kind, target), installation))
    return found


def _is_same(one: OutboxMark, other: OutboxMark) -> bool:
    return (one.kind, one.target, one.version) == (other.kind, other.target, other.version)


def _problem(error: DstackError) -> str:
    return f"{error.message}. {error.hint}".removesuffix(". ")
