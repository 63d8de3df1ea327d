"""Stops what a merge queue needs to know no more."""

from __future__ import annotations

from sqlmodel import Session

from dstack.server.store.jobs import jobs_of_run
from dstack.server.store.runs import runs_of_event
from dstack.server.transitions.jobs import stop_job
from dstack.wire.states import Reason

DROPPED = "merge group dropped"


def merge_group_key(repo_id: int, sha: str) -> str:
    """What the natural keys of its runs begin with."""
    return f"merge-group:{repo_id}:{sha}"


def drop_merge_group(session: Session, repo_id: int, sha: str, now: float) -> int:
    """Runs of a trial merge that will not be merged, and have not started, are stopped; how many."""
    stopped = 0
    for run in runs_of_event(session, repo_id, sha, merge_group_key(repo_id, sha)):  # those that need others first
        if run.started_at is None:
            asked = [
                stop_job(session, job, now=now, reason=Reason.SUPERSEDED_BY, message=DROPPED)
                for job in jobs_of_run(session, run.id or 0)
            ]
            stopped += any(asked)
    return stopped
