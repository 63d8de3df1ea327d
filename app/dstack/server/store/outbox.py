"""Marks of what is out of date outside."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlmodel import Session, col, func, select

from dstack.server.bus import OUTBOX
from dstack.server.models import OutboxMark, Repo, Run
from dstack.server.store.carried import carriers_of
from dstack.server.store.database import wake
from dstack.server.store.ends import is_of_default_branch
from dstack.server.store.pulls import pulls_at
from dstack.server.store.runs import clean_runs_at
from dstack.wire.states import JobState, Trigger

NOTES = "notes"  # the Git note of a commit; target `REPO-ID:SHA`
# On the forge; every target begins with `REPO-ID:`.
REACTION = "reaction"  # on a comment with commands; `REPO-ID:COMMENT-ID`
REPLY = "reply"  # our answer to it; `REPO-ID:COMMENT-ID`
STATUS = "status"  # the commit statuses of a commit; `REPO-ID:SHA`
CHECK = "check"  # the check run of a run; `REPO-ID:RUN-ID`, or `REPO-ID:config:SHA` where files have problems
COMMENT = "comment"  # the sticky comment of a pull request; `REPO-ID:NUMBER`
ISSUE = "issue"  # the sticky issue of a workflow; `REPO-ID:WORKFLOW`
FORGE_NOTES = "forge-notes"  # refs/notes/dstack pushed to the forge; `REPO-ID:`
# Judged or sent by workers of their own.
VERDICT = "verdict"  # what a gate says of a run; `REPO-ID:RUN-ID`
NOTIFY = "notify"  # a message to somebody's webhook; `REPO-ID:RUN-ID`


def mark_note_outdated(session: Session, run: Run, now: float) -> None:
    """The note on this run's commit must be written anew."""
    mark_outdated(session, NOTES, f"{run.repo_id}:{run.noted_sha}", now)


def mark_pushed_notes_outdated(session: Session, repo_id: int, now: float) -> None:
    """The forge has older notes than this server."""
    repo = session.get(Repo, repo_id)
    if repo is not None and repo.is_mirror:
        mark_outdated(session, FORGE_NOTES, f"{repo_id}:", now)


def mark_unjudged(session: Session, run: Run, now: float) -> None:
    """What this run is compared with must be found, and its gate judged."""
    mark_outdated(session, VERDICT, f"{run.repo_id}:{run.id}", now)


def mark_run_outdated(session: Session, run: Run, now: float) -> None:
    """Whatever the forge shows of this run must be rendered anew: it moved, or has new metrics, a verdict, a tag."""
    repo = session.get(Repo, run.repo_id)
    if repo is None or not repo.is_mirror or run.parent_sha:
        return
    mark_outdated(session, STATUS, f"{run.repo_id}:{run.sha}", now)
    if run.is_clean:
        for sha in carriers_of(session, run):
            mark_outdated(session, STATUS, f"{run.repo_id}:{sha}", now)
    mark_outdated(session, CHECK, f"{run.repo_id}:{run.id}", now)
    if run.is_clean and run.pull_request is not None and run.state is JobState.STOPPED:
        _mark_checks_outdated(session, run.repo_id, run.sha, now)  # another may speak in its place
    numbers = {pull.number for pull in pulls_at(session, run.repo_id, run.sha)}  # a push may have made it
    for number in numbers | ({run.pull_request} if run.pull_request is not None else set()):
        mark_outdated(session, COMMENT, f"{run.repo_id}:{number}", now)
    if run.state.is_final and is_of_default_branch(run, repo):
        mark_outdated(session, ISSUE, f"{run.repo_id}:{run.workflow}", now)
    if run.trigger is Trigger.COMMENT and run.key is not None:
        # Its key begins with `comment:REPO-ID:COMMENT-ID`: the reply there says how it is.
        mark_outdated(session, REPLY, f"{run.repo_id}:{run.key.split(':')[2]}", now)


def mark_commit_outdated(session: Session, repo_id: int, sha: str, now: float) -> None:
    """Another run may speak for a workflow there: the statuses, and the checks, whose names say it."""
    mark_outdated(session, STATUS, f"{repo_id}:{sha}", now)
    _mark_checks_outdated(session, repo_id, sha, now)


def _mark_checks_outdated(session: Session, repo_id: int, sha: str, now: float) -> None:
    for run in clean_runs_at(session, repo_id, sha):
        mark_outdated(session, CHECK, f"{repo_id}:{run.id}", now)


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


def mark_later(session: Session, kind: str, target: str, due: float, now: float) -> None:
    """Look at (kind, target) again at `due`; one that is marked already is looked at sooner."""
    if session.get(OutboxMark, (kind, target)) is None:
        session.add(OutboxMark(kind=kind, target=target, marked_at=now, not_before=due))


def marks_due(session: Session, kind: str, now: float) -> Sequence[OutboxMark]:
    return session.exec(
        select(OutboxMark)
        .where(OutboxMark.kind == kind, OutboxMark.not_before <= now)
        .order_by(col(OutboxMark.marked_at))
    ).all()


def due_targets(session: Session, kinds: Collection[str], now: float) -> Sequence[tuple[str, str]]:
    """(kind, target) of the marks that are due, the longest out of date first."""
    rows = session.exec(
        select(OutboxMark.kind, OutboxMark.target)
        .where(col(OutboxMark.kind).in_(kinds), OutboxMark.not_before <= now)
        .order_by(col(OutboxMark.marked_at))
    ).all()
    return [(kind, target) for kind, target in rows]


def mark_by_target(session: Session, kind: str, target: str) -> OutboxMark | None:
    return session.get(OutboxMark, (kind, target))


def next_due(session: Session, kinds: Collection[str], now: float) -> float | None:
    """When the next of the marks that are not due yet will be."""
    return session.exec(
        select(func.min(OutboxMark.not_before)).where(col(OutboxMark.kind).in_(kinds), OutboxMark.not_before > now)
    ).one()


def clear_mark(session: Session, mark: OutboxMark) -> None:
    """Rendered and sent: gone, unless it was marked again meanwhile."""
    current = session.get(OutboxMark, (mark.kind, mark.target))
    if current is not None and current.version == mark.version:
        session.delete(current)
        session.flush()


def hold_mark(session: Session, mark: OutboxMark, until: float) -> None:
    """It is too early to render it: look again at `until`, or when it is marked again. No try is counted."""
    current = session.get(OutboxMark, (mark.kind, mark.target))
    if current is not None and current.version == mark.version:
        current.not_before = until


def postpone_mark(session: Session, mark: OutboxMark, until: float, problem: str) -> None:
    """Sending failed: try again at `until`."""
    current = session.get(OutboxMark, (mark.kind, mark.target))
    if current is not None:
        current.tries += 1
        current.not_before = until
        current.problem = problem


def hasten_marks(session: Session, repo_id: int) -> None:
    """Whatever of this repo waits to be tried again is due now: what stood in its way is gone."""
    waiting = select(OutboxMark).where(col(OutboxMark.target).startswith(f"{repo_id}:"), OutboxMark.not_before > 0)
    for mark in session.exec(waiting).all():
        mark.not_before = 0
        session.add(mark)
    wake(session, OUTBOX)
