"""Takes what a runner reports of an attempt: where it stands, its metrics, its end."""

from __future__ import annotations

import math

from sqlmodel import Session

from dstack.errors import DstackError, Invalid
from dstack.providers import read_jobs, secrets_it_may_pass_on
from dstack.server.bus import run_topic
from dstack.server.decide.retry import after_attempt
from dstack.server.decide.states import Event
from dstack.server.models import Attempt, JobRow, Metric, Run
from dstack.server.store.database import wake
from dstack.server.store.jobs import job_by_id, jobs_of_run
from dstack.server.store.runs import run_by_id
from dstack.server.transitions.jobs import move_job
from dstack.wire.codec import to_dict
from dstack.wire.job import Job
from dstack.wire.runner import Finish, MetricPoint, MetricsReport, StateReport
from dstack.wire.states import AttemptState, JobState, Reason

_ORDER = (AttemptState.PREPARING, AttemptState.RUNNING, AttemptState.SAVING)
_EVENTS = {AttemptState.RUNNING: Event.START, AttemptState.SAVING: Event.SAVE}
_ENDS = (
    AttemptState.SUCCEEDED,
    AttemptState.FAILED,
    AttemptState.STOPPED,
    AttemptState.PREEMPTED,
    AttemptState.LOST,  # told by a runner that was started again after its own death
)
MAX_METRIC_POINTS = 1_000_000
MAX_METRIC_NAME = 200
MAX_REPORT = 64 * 1024
MAX_NUMBER = 2**62  # what the database holds with room to spare
_AGAIN_S = 5.0


def report_state(session: Session, attempt: Attempt, report: StateReport, now: float) -> None:
    """Move the attempt forward; a report that comes late or twice changes nothing. Raises Invalid for an end."""
    if report.state not in _ORDER:
        raise Invalid(f"{report.state.value} is not reported as a state; send finish")
    attempt.step = report.step[:100]
    session.add(attempt)
    if _ORDER.index(report.state) <= _ORDER.index(attempt.state):
        return
    attempt.state = report.state
    attempt.started_at = attempt.started_at or now
    move_job(session, job_by_id(session, attempt.job_id), _EVENTS[report.state], now=now)


def record_metrics(session: Session, attempt: Attempt, report: MetricsReport, now: float) -> int:
    """Append points; those already stored are passed over. Answers how many are stored now."""
    if report.offset < 0:
        raise Invalid(f"metric points cannot start at {report.offset}")
    if report.offset > attempt.points:
        raise Invalid(f"metric points {attempt.points} to {report.offset - 1} are missing", "Send from there.")
    new = report.points[attempt.points - report.offset :]
    if attempt.points + len(new) > MAX_METRIC_POINTS:
        raise Invalid(f"more than {MAX_METRIC_POINTS} metric points in one attempt")
    for position, point in enumerate(new, start=attempt.points):
        if _can_be_shown(point):
            session.add(
                Metric(
                    attempt_id=attempt.id,
                    position=position,
                    name=point.name[:MAX_METRIC_NAME],
                    step=point.step,
                    value=point.value,
                    at=point.at if point.at is not None and math.isfinite(point.at) else now,
                )
            )
    attempt.points += len(new)
    session.add(attempt)
    wake(session, run_topic(_run_of(session, attempt).name))
    return attempt.points


def _can_be_shown(point: MetricPoint) -> bool:
    """What a job wrote that is no number, or has no name, keeps its place in the count and is left out."""
    has_name = bool(point.name) and point.name.isprintable()
    return has_name and math.isfinite(point.value) and abs(point.step or 0) <= MAX_NUMBER


def finish_attempt(session: Session, attempt: Attempt, finish: Finish, now: float) -> None:
    """End an attempt and its job, or send the job back to the queue. Raises Invalid for what cannot be (B64)."""
    _check(attempt, finish)
    job = job_by_id(session, attempt.job_id)
    run = run_by_id(session, job.run_id)
    state, reason, message = finish.state, finish.reason, finish.message[:4000]
    if state is AttemptState.SUCCEEDED and job.spec["expects_jobs"]:
        try:
            _add_jobs(session, run, job.read_spec(), finish.jobs)
        except DstackError as error:
            state, reason, message = AttemptState.FAILED, Reason.CONFIG, f"the provider's job list: {error.message}"
    attempt.state, attempt.reason, attempt.message = state, reason, message
    attempt.exit_code, attempt.log_bytes, attempt.finished_at = finish.exit_code, finish.log_bytes, now
    session.add(attempt)
    _take_results(session, run, finish)
    spec = job.read_spec()
    event = after_attempt(
        state,
        reason,
        machine_fault=finish.machine_fault,
        stop_requested=job.stop_reason is not None,
        retry=spec.retry,
        retries=job.retries,
    )
    if event is Event.STOP:
        reason, message = job.stop_reason or reason or Reason.CANCELED_BY, job.stop_message or message
    if event is Event.REQUEUE:
        job.retries += 1
        # A machine that is itself at fault gets a moment; one that was taken away is not there to wait for.
        job.not_before = now + _AGAIN_S * job.retries if finish.machine_fault else None
    move_job(session, job, event, now=now, reason=None if event is Event.SUCCEED else reason, message=message)


def _check(attempt: Attempt, finish: Finish) -> None:
    if finish.state not in _ENDS:
        raise Invalid(f"{finish.state.value} is not an end a runner can report")
    if finish.exit_code is not None and not -255 <= finish.exit_code <= 255:
        raise Invalid(f"exit code {finish.exit_code} cannot be")
    if not 0 <= finish.log_bytes <= MAX_NUMBER:
        raise Invalid(f"a log of {finish.log_bytes} bytes cannot be")
    if finish.state is AttemptState.SUCCEEDED and attempt.state is AttemptState.PREPARING:
        raise Invalid("an attempt whose commands never ran cannot succeed")
    if finish.state is AttemptState.SUCCEEDED and finish.exit_code not in (None, 0):
        raise Invalid(f"an attempt with exit code {finish.exit_code} cannot succeed")


def _take_results(session: Session, run: Run, finish: Finish) -> None:
    """Final metrics and report belong to the run; several jobs add to them."""
    good = {k[:MAX_METRIC_NAME]: v for k, v in finish.metrics.items() if math.isfinite(v)}
    run.metrics = {**run.metrics, **dict(list(good.items())[:1000])}
    if finish.report:
        run.report = finish.report[:MAX_REPORT]
    session.add(run)


def _add_jobs(session: Session, run: Run, provider: Job, text: str) -> None:
    """The jobs a custom provider answered with, queued beside it."""
    jobs = read_jobs(text, secrets_it_may_pass_on(provider))
    position = len(jobs_of_run(session, run.id or 0))
    for number, job in enumerate(jobs):
        session.add(
            JobRow(
                run_id=run.id or 0,
                position=position + number,
                name=job.name or f"{run.workflow}-{number + 1}",
                spec=to_dict(job),
                state=JobState.QUEUED,
                queued_at=run.created_at,
            )
        )
    session.flush()


def _run_of(session: Session, attempt: Attempt) -> Run:
    return run_by_id(session, job_by_id(session, attempt.job_id).run_id)
