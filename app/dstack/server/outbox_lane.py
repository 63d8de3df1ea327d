"""The writes of one installation, one after another: who comes next, how fast, and what a refusal leads to."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial

from sqlmodel import Session

from dstack.errors import DstackError, ForgeBusy, ForgeDown, ForgeRefused, NotConnected
from dstack.server.decide.pacing import Pace, backoff_s
from dstack.server.models import OutboxMark
from dstack.server.outbox_sending import Sender, Sending, Write
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
from dstack.server.store.greens import commits_wrongly_green
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
    postpone_mark,
)
from dstack.server.wiring import Wiring

# What people wait for comes first. Of statuses those go first that take a green back, then those of commits where
# something ended.
SENDERS: dict[str, Sender] = {
    REACTION: send_reactions.send,
    REPLY: send_replies.send,
    STATUS: send_statuses.send,
    CHECK: send_checks.send,
    COMMENT: send_comments.send,
    ISSUE: send_issues.send,
    FORGE_NOTES: push_notes.send,
}
_ORDER = {kind: place for place, kind in enumerate(SENDERS)}
_NOT_CONNECTED_S = 60.0
_BROKEN_S = 30.0
log = logging.getLogger(__name__)


class Lane:
    """The writes of one installation. Not thread-safe: one thread at a time steps it."""

    def __init__(self, wiring: Wiring, installation: int, senders: Mapping[str, Sender] = SENDERS) -> None:
        self._wiring, self._installation, self._senders = wiring, installation, senders
        self._pace = Pace()
        self._open: Sending | None = None

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

    def _choose(self) -> Sending | None:
        """The generator under way, unless its target changed or something is more urgent."""
        if self._open is not None and self._open.pending is not None:
            return self._open
        mark = self._wiring.db.read(self._most_urgent)
        known = self._open
        if known is not None and mark is not None and known.is_for(mark):
            return known
        self._drop()
        if mark is not None:
            self._open = Sending(mark, self._senders[mark.kind](self._wiring, mark))
        return self._open

    def _most_urgent(self, session: Session) -> OutboxMark | None:
        due = [mark for mark, lane in targets_due(session, self._senders, self._now()) if lane == self._installation]
        first = min((_ORDER[kind] for kind, _ in due), default=None)
        foremost = [(kind, target) for kind, target in due if _ORDER[kind] == first]
        if not foremost:
            return None
        kind, target = foremost[0]
        if kind == STATUS:
            shas = {t.partition(":")[2] for _, t in foremost}
            first_of_all = commits_wrongly_green(session, shas) or reports.commits_with_an_end(session, shas)
            target = next((t for _, t in foremost if t.partition(":")[2] in first_of_all), target)
        return mark_by_target(session, kind, target)

    def _advance(self, sending: Sending) -> None:
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
            self._wiring.db.write(partial(reports.park, mark=mark, problem=_problem(error), answer=error.answer))
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

    def _write(self, sending: Sending, write: Write) -> None:
        try:
            write()
        except ForgeRefused as refused:
            self._pace = self._pace.after_answer(self._now(), self._gap)
            if not sending.answer_refusal(refused):
                self._finish(sending)
        else:
            self._pace = self._pace.after_answer(self._now(), self._gap)

    def _finish(self, sending: Sending) -> None:
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


def targets_due(session: Session, senders: Mapping[str, Sender], now: float) -> list[tuple[tuple[str, str], int]]:
    """Marks that are due, each with its installation; those of repos where we have none wait."""
    lanes = reports.installations_of_repos(session)
    found = []
    for kind, target in due_targets(session, senders.keys(), now):
        installation = lanes.get(int(target.partition(":")[0]))
        if installation is not None:
            found.append(((kind, target), installation))
    return found


def _problem(error: DstackError) -> str:
    return f"{error.message}. {error.hint}".removesuffix(". ")
