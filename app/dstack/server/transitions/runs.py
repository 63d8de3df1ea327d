"""Gives a run and its group the state that follows from their children, and finds what its end sets free or ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlmodel import Session

from dstack.server.bus import RUNS, run_topic
from dstack.server.decide.states import Event, fold
from dstack.server.decide.trust import waits_for_approval
from dstack.server.models import Group, JobRow, Run
from dstack.server.store.adoption import adopters_of, hand_back_inputs
from dstack.server.store.bases import ended_runs_based_on
from dstack.server.store.database import wake
from dstack.server.store.jobs import jobs_of_run
from dstack.server.store.outbox import NOTIFY, mark_note_outdated, mark_outdated, mark_run_outdated, mark_unjudged
from dstack.server.store.runs import (
    open_runs_of_concurrency_group,
    run_by_id,
    runs_needed_by,
    runs_that_need,
    states_in_group,
)
from dstack.server.transitions.tags import move_tag
from dstack.wire.states import JobState, Reason


@dataclass(frozen=True, slots=True)
class FollowUp:
    """A waiting job of another run that must move because this run ended."""

    job: JobRow
    event: Event
    reason: Reason | None = None
    message: str = ""


def settle_run(session: Session, run_id: int, now: float) -> list[FollowUp]:
    """Fold a run's jobs into its state; answer which waiting jobs of other runs must move, how, and why in words."""
    run = run_by_id(session, run_id)
    jobs = jobs_of_run(session, run_id)
    before, run.state = run.state, fold(job.state for job in jobs)
    if run.adopted_id is not None and run.state is JobState.SKIPPED:
        run.state = JobState.SUCCEEDED  # the work was done, only not here
    if run.adopted_id is not None and run.state is JobState.STOPPED:
        run.adopted_id = None  # whatever becomes of the other, this one ended for itself
    if run.started_at is None and any(job.state.is_live or (job.attempts and job.state.is_final) for job in jobs):
        run.started_at = now
    wake(session, run_topic(run.name), RUNS)
    mark_run_outdated(session, run, now)
    if run.state is before:
        session.add(run)
        return []
    _say_why(run, jobs)
    session.add(run)
    session.flush()
    _settle_group(session, run.group_id)
    if not run.state.is_final:
        return []
    run.finished_at = now
    mark_note_outdated(session, run, now)
    if run.notify:
        mark_outdated(session, NOTIFY, f"{run.repo_id}:{run.id}", now)
    for judged in (run, *ended_runs_based_on(session, run_id)):  # those waited for what they are compared with
        mark_unjudged(session, judged, now)
    if run.state is JobState.SUCCEEDED and run.auto_tag and run.gate is None:  # else once it is judged
        move_tag(session, run, run.auto_tag, by="dstack", now=now)
    return [*_dependents(session, run), *_adopters(session, run), *_next_of_concurrency_group(session, run)]


def is_ready(session: Session, run: Run) -> bool:
    """Its commit may run, everything `run` needs has succeeded, and no older run of its concurrency group is open."""
    if run.is_held or run.adopted_id is not None:
        return False
    if any(needed.state is not JobState.SUCCEEDED for needed in runs_needed_by(session, run.id or 0)):
        return False
    return not older_in_concurrency_group(session, run)


def older_in_concurrency_group(session: Session, run: Run) -> list[Run]:
    """Open runs that go before `run`."""
    if not run.concurrency_group:
        return []
    open_runs = open_runs_of_concurrency_group(session, run.repo_id, run.concurrency_group)
    return [other for other in open_runs if (other.id or 0) < (run.id or 0)]


def what_it_waits_for(session: Session, run: Run) -> str:
    """An approval comes first: until then nothing else of it matters."""
    if run.is_held:
        return waits_for_approval(run.sha)
    names = [
        f"{r.workflow} ({r.name})" for r in runs_needed_by(session, run.id or 0) if r.state is not JobState.SUCCEEDED
    ]
    names += [
        f"{r.workflow} ({r.name}) of the same concurrency group" for r in older_in_concurrency_group(session, run)
    ]
    return f"waits for {', '.join(names)}"


def _say_why(run: Run, jobs: Sequence[JobRow]) -> None:
    telling = next((job for job in jobs if job.state is run.state and job.reason is not None), None)
    run.reason = telling.reason if telling is not None else None
    run.message = telling.message if telling is not None else ""


def _settle_group(session: Session, group_id: int) -> None:
    group = session.get(Group, group_id)
    assert group is not None
    group.state = fold(states_in_group(session, group_id))
    session.add(group)


def _dependents(session: Session, ended: Run) -> list[FollowUp]:
    follow_ups: list[FollowUp] = []
    for run in runs_that_need(session, ended.id or 0):
        waiting = _waiting_jobs(session, run)
        if ended.state is JobState.STOPPED:
            reason = ended.reason or Reason.CANCELED_BY
            follow_ups += [FollowUp(job, Event.STOP, reason, how_it_ended(ended)) for job in waiting]
        elif ended.state is not JobState.SUCCEEDED:
            follow_ups += [FollowUp(job, Event.SKIP, Reason.DEPENDENCY_FAILED, how_it_ended(ended)) for job in waiting]
        elif is_ready(session, run):
            follow_ups += [FollowUp(job, Event.RELEASE) for job in waiting]
    return follow_ups


def _adopters(session: Session, ended: Run) -> list[FollowUp]:
    """Runs that took over this one end as it did; one that was stopped leaves the work to them."""
    follow_ups: list[FollowUp] = []
    for run in adopters_of(session, ended.id or 0):
        waiting = _waiting_jobs(session, run)
        if ended.state is JobState.SUCCEEDED:
            take_results(run, ended)
            follow_ups += [FollowUp(job, Event.SKIP, Reason.NOT_NEEDED, same_as(ended)) for job in waiting]
        elif ended.state is JobState.FAILED:
            message = f"{same_as(ended)}: {ended.message}"
            follow_ups += [FollowUp(job, Event.FAIL, ended.reason, message) for job in waiting]
        elif waiting:
            hand_back_inputs(session, run)
            run.adopted_id = None
            session.add(run)
            session.flush()
            follow_ups += _begin_alone(session, run, waiting)
    return follow_ups


def _begin_alone(session: Session, run: Run, waiting: list[JobRow]) -> list[FollowUp]:
    if is_ready(session, run):
        return [FollowUp(job, Event.RELEASE) for job in waiting]
    for job in waiting:
        job.waits_for = what_it_waits_for(session, run)
        session.add(job)
    return []


def take_results(run: Run, source: Run) -> None:
    run.metrics, run.report, run.headline, run.better = source.metrics, source.report, source.headline, source.better


def same_as(source: Run) -> str:
    return f"same as {source.name}"


def _next_of_concurrency_group(session: Session, ended: Run) -> list[FollowUp]:
    if not ended.concurrency_group:
        return []
    for run in open_runs_of_concurrency_group(session, ended.repo_id, ended.concurrency_group):
        if is_ready(session, run):
            return [FollowUp(job, Event.RELEASE) for job in _waiting_jobs(session, run)]
    return []


def _waiting_jobs(session: Session, run: Run) -> list[JobRow]:
    return [job for job in jobs_of_run(session, run.id or 0) if job.state is JobState.WAITING]


def how_it_ended(ended: Run) -> str:
    """For the runs that needed it."""
    return f"{ended.workflow} ({ended.name}) {_ENDED[ended.state]}"


_ENDED = {JobState.FAILED: "failed", JobState.STOPPED: "was stopped", JobState.SKIPPED: "was skipped"}
