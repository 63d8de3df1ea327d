"""Which blobs an untrusted attempt has proved to hold, by sending their bytes."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.dialects.sqlite import insert
from sqlmodel import Session, select

from dstack.server.models import Upload


def note_uploads(session: Session, attempt_id: str, digests: Sequence[str]) -> None:
    """Cheap to repeat."""
    rows = [{"attempt_id": attempt_id, "digest": digest} for digest in dict.fromkeys(digests)]
    if rows:
        session.connection().execute(insert(Upload).on_conflict_do_nothing(), rows)


def uploads_of(session: Session, attempt_id: str) -> set[str]:
    return set(session.exec(select(Upload.digest).where(Upload.attempt_id == attempt_id)).all())
