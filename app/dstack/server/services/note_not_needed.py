"""Says of workflows that an event did not start why not, so that a status somebody requires never hangs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sqlmodel import Session

from dstack.server.models import NotNeeded, Run
from dstack.server.report.voices import voice_of
from dstack.server.store.outbox import CHECK, COMMENT, STATUS, mark_outdated
from dstack.server.store.pulls import pulls_at
from dstack.server.store.runs import clean_runs_at
from dstack.wire.states import Trigger

CONFIG = "config"  # stands in for a workflow where the files themselves have problems
_LONGEST = 2000
_NOTHING: Mapping[str, str] = {}


def note_not_needed(
    session: Session,
    repo_id: int,
    sha: str,
    whys: Mapping[str, str],
    now: float,
    carried: Mapping[str, str] = _NOTHING,
) -> None:
    """`whys` is workflow -> why, `carried` workflow -> the commit that speaks for this one; an event without a speaker
    takes back none. A clean run of a workflow at this commit says more, whenever it was made, unless it was for a pull
    request that does not go there any more."""
    done = _done_at(session, repo_id, sha) if whys else set()
    left = {workflow: why for workflow, why in whys.items() if workflow not in done}
    for workflow, why in left.items():
        known = session.get(NotNeeded, (repo_id, sha, workflow))
        speaker = carried.get(workflow, "")
        if speaker or known is None or not known.carried_sha:
            row = NotNeeded(repo_id=repo_id, sha=sha, workflow=workflow, why=why[:_LONGEST], created_at=now)
            row.carried_sha = speaker
            _put(session, row)
    if left:
        mark_outdated(session, STATUS, f"{repo_id}:{sha}", now)


def _done_at(session: Session, repo_id: int, sha: str) -> set[str]:
    aims = {(pull.number, pull.base_branch) for pull in pulls_at(session, repo_id, sha)}
    runs = clean_runs_at(session, repo_id, sha)
    return {run.workflow for run in runs if (voice := voice_of(run)).aim is None or voice.aim in aims}


def note_problem(session: Session, repo_id: int, sha: str, problem: str, now: float, met_by: Trigger) -> None:
    """The files at this commit cannot be read: that is what its status says until an event of this kind starts what it
    should there."""
    why = f"config error: {problem}"[:_LONGEST]
    known = session.get(NotNeeded, (repo_id, sha, CONFIG))
    events = sorted({met_by.value, *(known.events if known is not None else ())})
    row = NotNeeded(repo_id=repo_id, sha=sha, workflow=CONFIG, why=why, is_problem=True, events=events, created_at=now)
    _put(session, row)
    _tell_of_problem(session, repo_id, sha, now)


def _tell_of_problem(session: Session, repo_id: int, sha: str, now: float) -> None:
    mark_outdated(session, STATUS, f"{repo_id}:{sha}", now)
    mark_outdated(session, CHECK, f"{repo_id}:config:{sha}", now)
    for pull in pulls_at(session, repo_id, sha):
        mark_outdated(session, COMMENT, f"{repo_id}:{pull.number}", now)


def forget_not_needed(session: Session, runs: Iterable[Run]) -> None:
    """Clean runs were made: what they answer for themselves counts, and the files could be read after all."""
    for run in runs:
        if run.is_clean:
            row = session.get(NotNeeded, (run.repo_id, run.sha, run.workflow))
            if row is not None and not row.is_problem:
                session.delete(row)
            _note_mended(session, run)
    session.flush()


def _note_mended(session: Session, run: Run) -> None:
    """What the forge was told of problems stays there until something else is."""
    row = session.get(NotNeeded, (run.repo_id, run.sha, CONFIG))
    if row is None or not row.is_problem or run.trigger.value not in row.events:
        return
    row.events = [event for event in row.events if event != run.trigger.value]
    session.add(row)
    if not row.events:
        row.why = ""
        _tell_of_problem(session, run.repo_id, run.sha, run.created_at)


def _put(session: Session, row: NotNeeded) -> None:
    session.merge(row)
    session.flush()
