"""Reads rows into the views that the client API and the pages show: whole lists at once, never a query per row."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime

from sqlmodel import Session, col, select

from dstack.server.models import Artifact, Attempt, Group, JobRow, Repo, Run, Runner, Tag
from dstack.server.store.artifacts import artifacts_of_runs
from dstack.server.store.attempts import attempts_of_jobs, live_attempts
from dstack.server.store.jobs import jobs_of_runs
from dstack.server.store.runs import needs_of_runs, previous_successes, runs_by_id
from dstack.server.store.tags import tags_of_runs
from dstack.wire.api import ArtifactView, DeviceView, JobView, RunnerView, RunView, TagView
from dstack.wire.states import JobState


def iso(moment: float) -> str:
    """UTC, to the millisecond."""
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def iso_or_none(moment: float | None) -> str | None:
    return None if moment is None else iso(moment)


def view_runs(session: Session, runs: Sequence[Run]) -> list[RunView]:
    """Views in the order given."""
    ids = [run.id or 0 for run in runs]
    jobs: dict[int, list[JobRow]] = defaultdict(list)
    done_by = {run.result_id for run in runs}  # a run that adopted another shows the jobs that did the work
    for job in jobs_of_runs(session, [*ids, *(done_by - set(ids))]):
        jobs[job.run_id].append(job)
    attempts = {a.job_id: a for a in attempts_of_jobs(session, [j.id or 0 for row in jobs.values() for j in row])}
    artifacts: dict[int, list[Artifact]] = defaultdict(list)
    for artifact in artifacts_of_runs(session, list(done_by)):
        artifacts[artifact.job_id].append(artifact)
    tags: dict[int, list[str]] = defaultdict(list)
    for tag in tags_of_runs(session, ids):
        tags[tag.run_id].append(tag.name)
    needs = needs_of_runs(session, ids)
    previous = previous_successes(session, runs)
    needed = runs_by_id(session, [n for edges in needs.values() for n in edges])
    others = runs_by_id(session, [i for run in runs for i in (run.base_run_id, run.adopted_id) if i is not None])
    groups = _names(session, Group, [run.group_id for run in runs])
    repos = {r.id: r.full_name for r in session.exec(select(Repo)).all()}
    return [
        RunView(
            name=run.name,
            group=groups[run.group_id],
            needs=[needed[n].name for n in needs.get(run.id or 0, [])],
            repo=repos[run.repo_id],
            workflow=run.workflow,
            state=run.state.value,
            reason=_reason(run, jobs[run.id or 0]),
            sha=run.sha,
            branch=run.branch,
            trigger=run.trigger.value,
            variables=run.variables,
            metrics=run.metrics,
            verdict=run.verdict.value if run.verdict else None,
            tags=tags[run.id or 0],
            created_at=iso(run.created_at),
            started_at=iso_or_none(run.started_at),
            finished_at=iso_or_none(run.finished_at),
            restarted_from=run.restarted_from,
            jobs=[_view_job(job, attempts.get(job.id or 0), artifacts[job.id or 0]) for job in jobs[run.result_id]],
            headline=run.headline,
            better=run.better,
            previous_metrics=previous[run.id or 0].metrics if run.id in previous else {},
            parent=run.parent_sha,
            pull_request=run.pull_request,
            base_run=others[run.base_run_id].name if run.base_run_id in others else None,
            base_metrics=others[run.base_run_id].metrics if run.base_run_id in others else {},
            gate=run.gate,
            verdict_why=run.verdict_why,
            same_as=others[run.adopted_id].name if run.adopted_id in others else None,
        )
        for run in runs
    ]


def view_run(session: Session, run: Run) -> RunView:
    return view_runs(session, [run])[0]


def view_artifact(artifact: Artifact) -> ArtifactView:
    return ArtifactView(artifact.path, artifact.digest, artifact.bytes, artifact.files, str(artifact.id))


def view_tags(session: Session, tags: Sequence[Tag]) -> list[TagView]:
    runs = runs_by_id(session, [tag.run_id for tag in tags])
    repos = {r.id: r.full_name for r in session.exec(select(Repo)).all()}
    stored = artifacts_of_runs(session, list(runs))
    return [
        TagView(
            repo=repos[tag.repo_id],
            tag=tag.label,
            run=runs[tag.run_id].name,
            sha=runs[tag.run_id].sha,
            moved_at=iso(tag.moved_at),
            moved_by=tag.moved_by,
            artifacts=[view_artifact(a) for a in stored if a.run_id == tag.run_id],
        )
        for tag in tags
    ]


def view_runners(session: Session, runners: Sequence[Runner], now: float) -> list[RunnerView]:
    """Removed runners keep their row for history and are not shown."""
    held: dict[int, list[Attempt]] = defaultdict(list)
    for attempt in live_attempts(session):
        held[attempt.runner_id].append(attempt)
    names = _run_names(session, [a.job_id for row in held.values() for a in row])
    views = []
    for runner in runners:
        if runner.last_seen_at == 0:
            continue
        capacity, mine = runner.read_capacity(), held[runner.id or 0]
        users = {device: names[attempt.job_id] for attempt in mine for device in attempt.devices}
        views.append(
            RunnerView(
                name=runner.name,
                state="offline" if not runner.is_online(now) else "draining" if runner.draining else "online",
                cpu=capacity.cpu,
                memory=capacity.memory,
                slots=capacity.slots,
                labels=list(capacity.labels),
                devices=[DeviceView(d.id, d.name, d.memory, d.busy, users.get(d.id, "")) for d in capacity.devices],
                jobs=[names[attempt.job_id] for attempt in mine],
                last_seen_at=iso(runner.last_seen_at),
                version=runner.version,
                isolated=capacity.isolated,
                untrusted=capacity.takes_untrusted,
            )
        )
    return views


def _view_job(job: JobRow, attempt: Attempt | None, artifacts: Sequence[Artifact]) -> JobView:
    return JobView(
        name=job.name,
        state=job.state.value,
        reason=job.waits_for if job.state in _BEFORE_START else job.reason.value if job.reason else "",
        attempt=job.attempts,
        runner=attempt.runner_name if attempt else "",
        exit_code=attempt.exit_code if attempt else None,
        artifacts=[view_artifact(artifact) for artifact in artifacts],
        id=str(job.id),
        message=job.message,
    )


_BEFORE_START = (JobState.WAITING, JobState.QUEUED)


def _reason(run: Run, jobs: Sequence[JobRow]) -> str:
    if run.state in _BEFORE_START:
        return next((job.waits_for for job in jobs if job.waits_for), "")
    return run.reason.value if run.reason else ""


def _names(session: Session, kind: type[Group], ids: Sequence[int]) -> dict[int, str]:
    rows = session.exec(select(kind).where(col(kind.id).in_(set(ids)))).all() if ids else []
    return {row.id or 0: row.name for row in rows}


def _run_names(session: Session, job_ids: Sequence[int]) -> dict[int, str]:
    if not job_ids:
        return {}
    rows = session.exec(
        select(JobRow.id, Run.name).join(Run, col(Run.id) == JobRow.run_id).where(col(JobRow.id).in_(job_ids))
    ).all()
    return {job_id or 0: name for job_id, name in rows}
