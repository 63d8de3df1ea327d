"""Questions that only the pages ask."""

from __future__ import annotations

from sqlmodel import Session, col, select

from dstack.server.models import Run


def workflows_seen(session: Session) -> list[str]:
    return sorted(session.exec(select(Run.workflow).distinct()).all())


def branches_seen(session: Session) -> list[str]:
    return sorted(branch for branch in session.exec(select(Run.branch).distinct()).all() if branch)


def newest_run(session: Session, repo_id: int, workflow: str, branch: str) -> Run | None:
    """Of the branch itself: a fork may call its own branch the same."""
    query = select(Run).where(Run.repo_id == repo_id, Run.branch == branch, col(Run.trusted))
    query = query.order_by(col(Run.id).desc()).limit(1)
    return session.exec(query.where(Run.workflow == workflow) if workflow else query).first()


def restarts_of(session: Session, name: str) -> list[str]:
    return list(session.exec(select(Run.name).where(Run.restarted_from == name).order_by(col(Run.id))).all())
