"""What the forge told us and we told it that may be forgotten: pull requests and commits that nothing is left of."""

from __future__ import annotations

from sqlalchemy import tuple_
from sqlmodel import Session, col, delete, exists, func, select

from dstack.server.models import Approval, Command, ForgeReport, Head, NotNeeded, PullRequest, Run
from dstack.server.store.outbox import CHECK, COMMENT, REACTION, REPLY
from dstack.server.store.reports import forget_statuses


def forget_pulls(session: Session, before: float, limit: int) -> int:
    """Those closed before then of which no run is left and in which nobody gave a command since, with their commands,
    approvals, and what was written there. How many, `limit` at most.

    As long as there is one, a command in it that comes a second time is known."""
    runs = exists().where(col(Run.repo_id) == PullRequest.repo_id, col(Run.pull_request) == PullRequest.number)
    commands = exists().where(
        col(Command.repo_id) == PullRequest.repo_id,
        col(Command.number) == PullRequest.number,
        col(Command.created_at) >= before,
    )
    old = session.exec(
        select(PullRequest)
        .where(col(PullRequest.is_open).is_(False), PullRequest.updated_at < before, ~runs, ~commands)
        .limit(limit)
    ).all()
    for pull in old:
        _forget_pull(session, pull)
    return len(old)


def _forget_pull(session: Session, pull: PullRequest) -> None:
    repo_id, number = pull.repo_id, pull.number
    comments = session.exec(
        select(Command.comment_id).where(Command.repo_id == repo_id, Command.number == number)
    ).all()
    kind, target = col(ForgeReport.kind), col(ForgeReport.target)
    of_comments = kind.in_((REPLY, REACTION)) & target.in_([str(comment) for comment in comments])
    of_pull = (kind == COMMENT) & ((target == str(number)) | target.startswith(f"{number}:"))
    session.exec(delete(ForgeReport).where(col(ForgeReport.repo_id) == repo_id, of_comments | of_pull))
    session.exec(delete(Command).where(col(Command.repo_id) == repo_id, col(Command.number) == number))
    session.exec(delete(Approval).where(col(Approval.repo_id) == repo_id, col(Approval.number) == number))
    session.delete(pull)
    session.flush()


def forget_commits(session: Session, before: float, limit: int) -> int:
    """What was not needed on commits that have no run and are the head of nothing, unless a run that is left speaks for
    them: it may be tried again, and its end is told there too. How many commits, `limit` at most."""
    note = (col(NotNeeded.repo_id), col(NotNeeded.sha))
    heads = select(Head.repo_id, Head.sha)
    pulls = select(PullRequest.repo_id, PullRequest.head_sha).where(col(PullRequest.is_open).is_(True))
    spoken = select(NotNeeded.repo_id, NotNeeded.sha).join(
        Run, (col(Run.repo_id) == NotNeeded.repo_id) & (col(Run.sha) == NotNeeded.carried_sha)
    )
    run = exists().where(col(Run.repo_id) == NotNeeded.repo_id, col(Run.sha) == NotNeeded.sha)
    commits = session.exec(
        select(NotNeeded.repo_id, NotNeeded.sha)
        .where(*(tuple_(*note).not_in(kept) for kept in (heads, pulls, spoken)), ~run)
        .group_by(*note)
        .having(func.max(NotNeeded.created_at) < before)
        .limit(limit)
    ).all()
    for repo_id, sha in commits:
        session.exec(delete(NotNeeded).where(col(NotNeeded.repo_id) == repo_id, col(NotNeeded.sha) == sha))
        forget_statuses(session, repo_id, sha)
        config = (repo_id, CHECK, f"config:{sha}")
        report = session.get(ForgeReport, config)
        if report is not None:
            session.delete(report)
    session.flush()
    return len(commits)
