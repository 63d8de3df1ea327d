"""Marks of what is out of date outside."""

from __future__ import annotations

from collections.abc import Sequence

from sqlmodel import Session, col, select

from dstack.server.bus import OUTBOX
from dstack.server.models import OutboxMark, Run
from dstack.server.store.database import wake

NOTES = "notes"  # the Git note of a commit; target `REPO-ID:SHA`


def mark_note_outdated(session: Session, run: Run, now: float) -> None:
    """The note on this run's commit must be written anew."""
    mark_outdated(session, NOTES, f"{run.repo_id}:{run.noted_sha}", now)


def mark_outdated(session: Session, kind: str, target: str, now: float) -> None:
    """Say that (kind, target) must be rendered anew. Cheap to repeat."""
    mark = session.get(OutboxMark, (kind, target))
    if mark is None:
        session.add(OutboxMark(kind=kind, target=target, marked_at=now))
        session.flush()
    else:
        mark.version += 1
        mark.not_before = 0
    wake(session, OUTBOX)


def marks_due(session: Session, kind: str, now: float) -> Sequence[OutboxMark]:
    return session.exec(
        select(OutboxMark)
        .where(OutboxMark.kind == kind, OutboxMark.not_before <= now)
        .order_by(col(OutboxMark.marked_at))
    ).all()


def clear_mark(session: Session, mark: OutboxMark) -> None:
    """Rendered and sent: gone, unless it was marked again meanwhile."""
    current = session.get(OutboxMark, (mark.kind, mark.target))
    if current is not None and current.version == mark.version:
        session.delete(current)


def postpone_mark(session: Session, mark: OutboxMark, until: float, problem: str) -> None:
    """Sending failed: try again at `until`."""
    current = session.get(OutboxMark, (mark.kind, mark.target))
    if current is not None:
        current.tries += 1
        current.not_before = until
        current.problem = problem
