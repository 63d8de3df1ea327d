"""Stops what an approval no longer covers: runs whose budget is used up, and held ones that nobody can approve now."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlmodel import Session

from dstack.server.decide.budget import is_used_up, name_budget
from dstack.server.decide.trust import short
from dstack.server.models import JobRow
from dstack.server.store.approvals import approvals_with_budget, outdated_held_runs, runs_under
from dstack.server.store.jobs import jobs_of_run
from dstack.server.transitions.approvals import used_under
from dstack.server.transitions.jobs import stop_job
from dstack.server.wiring import Wiring
from dstack.wire.states import Reason


@dataclass(frozen=True, slots=True)
class _ToStop:
    job: JobRow
    reason: Reason
    message: str


def enforce_budgets(wiring: Wiring) -> int:
    """How many jobs were stopped, or asked to stop. Looked at often, so it writes only where there is something."""
    now = wiring.clock.now()
    if not wiring.db.read(lambda s: any(True for _ in _find(s, now))):
        return 0
    return wiring.db.write(lambda s: _stop(s, now))


def _stop(session: Session, now: float) -> int:
    found = list(_find(session, now))
    return sum(stop_job(session, one.job, now=now, reason=one.reason, message=one.message) for one in found)


def _find(session: Session, now: float) -> Iterator[_ToStop]:
    for approval in approvals_with_budget(session):
        if not is_used_up(approval.gpu_seconds, used_under(session, approval, now)):
            continue
        words = f"budget of {name_budget(approval.gpu_seconds or 0)} used up"
        for run in runs_under(session, approval.repo_id, approval.number, approval.sha):
            if not run.state.is_final and not run.is_held:
                yield from _open_jobs(session, run.id or 0, Reason.CANCELED_BY, words)
    for run, head in outdated_held_runs(session):
        words = f"{short(head)}, the head of #{run.pull_request} now"
        yield from _open_jobs(session, run.id or 0, Reason.SUPERSEDED_BY, words)


def _open_jobs(session: Session, run_id: int, reason: Reason, words: str) -> Iterator[_ToStop]:
    """Those not asked to stop yet."""
    for job in jobs_of_run(session, run_id):
        if not job.state.is_final and job.stop_reason is None:
            yield _ToStop(job, reason, words)
