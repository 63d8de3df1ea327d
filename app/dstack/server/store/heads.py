"""Refs as last handled."""

from __future__ import annotations

from sqlmodel import Session, select

from dstack.server.models import Head


def heads_of_repo(session: Session, repo_id: int) -> dict[str, str]:
    """Ref -> sha."""
    return {head.ref: head.sha for head in session.exec(select(Head).where(Head.repo_id == repo_id)).all()}


def head_of(session: Session, repo_id: int, ref: str) -> str:
    """Empty where nothing of the ref has been handled."""
    head = session.get(Head, (repo_id, ref))
    return head.sha if head is not None else ""


def note_head(session: Session, repo_id: int, ref: str, sha: str | None) -> None:
    """Remember where a ref stands now; None: it is gone."""
    head = session.get(Head, (repo_id, ref))
    if sha is None:
        if head is not None:
            session.delete(head)
        return
    if head is None:
        head = Head(repo_id=repo_id, ref=ref, sha=sha)
    head.sha = sha
    session.add(head)
