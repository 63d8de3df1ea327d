"""The same work is not done twice: a run takes over the result of an equal one, at once or when that one ends.

Equal is what has the same work key, in the same repo and of the same trust (an untrusted run: of the same pull
request and commit). A run that adopted another never holds a machine; should that be stopped, it does the work.
"""

from __future__ import annotations

from sqlmodel import Session

from dstack.server.decide.states import Event
from dstack.server.models import Run
from dstack.server.store.adoption import equal_run
from dstack.server.store.jobs import jobs_of_run
from dstack.server.store.outbox import mark_run_outdated
from dstack.server.transitions.jobs import move_job
from dstack.server.transitions.runs import same_as, take_results
from dstack.wire.states import JobState, Reason


def adopt_equal(session: Session, run: Run, now: float) -> Run | None:
    """Let `run` take over the newest equal run that succeeded or is under way; that run, None when there is none."""
    source = equal_run(session, run) if run.work_key else None
    if source is None:
        return None
    run.adopted_id = source.id
    session.add(run)
    session.flush()
    jobs = jobs_of_run(session, run.id or 0)
    if source.state is JobState.SUCCEEDED:
        take_results(run, source)
        for job in jobs:
            move_job(session, job, Event.SKIP, now=now, reason=Reason.NOT_NEEDED, message=same_as(source))
    else:
        for job in jobs:
            job.waits_for = f"{same_as(source)}, which is {source.state.value}"
            session.add(job)
        mark_run_outdated(session, run, now)
    return source
