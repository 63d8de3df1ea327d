"""Writes what became of finished runs into Git notes on their commits, in the server's own remote."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict
from functools import partial

from sqlmodel import Session

from dstack.git.notes import render_all
from dstack.server.models import OutboxMark, Run
from dstack.server.store.outbox import NOTES, clear_mark, mark_pushed_notes_outdated, marks_due, postpone_mark
from dstack.server.store.runs import runs_of_noted_commit
from dstack.server.store.views import view_runs
from dstack.server.wiring import Wiring
from dstack.wire.api import RunView

_RETRY_S = 30.0


def write_notes(wiring: Wiring) -> int:
    """Render every outdated note from the current state and write those of one repo together; how many were written.

    A crash between writing and clearing the mark writes the same note again, which changes nothing.
    """
    now = wiring.clock.now()
    marks = wiring.db.read(lambda s: marks_due(s, NOTES, now))
    by_repo: dict[str, list[OutboxMark]] = defaultdict(list)
    for mark in marks:
        by_repo[mark.target.partition(":")[0]].append(mark)
    for repo_id, mine in by_repo.items():
        try:
            wiring.notes.write(repo_id, wiring.db.read(partial(_texts, marks=mine)))
        except Exception as error:  # noqa: BLE001 - whatever git or disk says: shown, and tried again
            wiring.db.write(partial(_postpone, marks=mine, until=now + _RETRY_S, problem=str(error)[:500]))
            continue
        wiring.db.write(partial(_clear, marks=mine))
        if wiring.settings.github_notes:
            wiring.db.write(partial(mark_pushed_notes_outdated, repo_id=int(repo_id), now=now))
    return len(marks)


def _clear(session: Session, marks: list[OutboxMark]) -> None:
    for mark in marks:
        clear_mark(session, mark)


def _postpone(session: Session, marks: list[OutboxMark], until: float, problem: str) -> None:
    for mark in marks:
        postpone_mark(session, mark, until, problem)


def _texts(session: Session, marks: list[OutboxMark]) -> dict[str, str]:
    """Commit -> its whole note."""
    texts = {}
    for mark in marks:
        repo_id, _, sha = mark.target.partition(":")
        runs = runs_of_noted_commit(session, int(repo_id), sha)
        views = view_runs(session, runs)
        texts[sha] = render_all(_record(run, view) for run, view in zip(runs, views, strict=True))
    return texts


def _record(run: Run, view: RunView) -> dict[str, object]:
    stored = {artifact.path: artifact.digest for job in view.jobs for artifact in job.artifacts}
    return {**asdict(view), "artifacts": stored, "worktree": bool(run.parent_sha)}
