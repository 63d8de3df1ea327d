"""Makes a new run of the same work."""

from __future__ import annotations

from collections.abc import Callable

from sqlmodel import Session

from dstack.errors import Conflict
from dstack.server.clock import Clock
from dstack.server.models import Group, JobRow, Run, RunInput
from dstack.server.store.jobs import jobs_of_run
from dstack.server.store.runs import group_by_name, inputs_of_run, run_by_id, run_by_name
from dstack.server.transitions.approvals import take_approval
from dstack.server.transitions.release import release_or_wait
from dstack.wire.states import JobState, Reason


def restart_run(session: Session, old: Run, *, by: str, clock: Clock) -> Run:
    """The same commit, variables, jobs and inputs, as recorded; it too waits its turn in its concurrency group, and for
    an approval where its commit has none in force any more.

    Raises Conflict while the old run goes on, and when the inputs it needs were never found or have nothing to give.
    """
    _check_can(session, old)
    now = clock.now()
    run = _same_run(session, old, by, clock, now)
    take_approval(session, run, now)
    session.flush()
    for row in inputs_of_run(session, old.id or 0):
        session.add(RunInput(**{**row.model_dump(), "run_id": run.id}))
    _copy_jobs(session, old, run)
    session.flush()
    release_or_wait(session, run, now)
    return run


def _check_can(session: Session, old: Run) -> None:
    if not old.state.is_final:
        raise Conflict(f"{old.name} has not ended ({old.state.value})", f"`dstack stop {old.name}` first.")
    if old.reason is Reason.NO_SUCH_TAG:
        raise Conflict(
            f"{old.name} never had its inputs: {old.message}", f"Start the workflow anew: `dstack run {old.workflow}`."
        )
    for row in inputs_of_run(session, old.id or 0):
        source = run_by_id(session, row.source_id)
        if source.state is not JobState.SUCCEEDED:
            raise Conflict(
                f"{old.name} needs {source.workflow} ({source.name}), which is {source.state.value}",
                f"Start the workflow anew: `dstack run {old.workflow}`.",
            )


def _same_run(session: Session, old: Run, by: str, clock: Clock, now: float) -> Run:
    """In a group of its own, without its jobs."""
    group = Group(
        name=_free_name(clock, lambda name: group_by_name(session, name)), repo_id=old.repo_id, created_at=now
    )
    session.add(group)
    session.flush()
    fields = old.model_dump(
        include={
            "repo_id", "workflow", "sha", "branch", "trigger", "variables", "headline", "better", "auto_tag",
            "concurrency_group", "trusted", "parent_sha", "subject", "author", "is_clean", "objects", "pull_request",
            "base_branch", "needs_approval", "work_key", "gate", "notify", "scheduled_at",
        }
    )  # fmt: skip
    return Run(
        **fields,
        name=_free_name(clock, lambda name: run_by_name(session, name)),
        group_id=group.id or 0,
        created_by=by,
        restarted_from=old.name,
        created_at=now,
    )


def _copy_jobs(session: Session, old: Run, run: Run) -> None:
    jobs = [job for job in jobs_of_run(session, old.id or 0) if not _was_made_by_provider(session, old, job)]
    for job in jobs:
        session.add(
            JobRow(
                run_id=run.id or 0,
                position=job.position,
                name=job.name,
                spec=job.spec,
                state=JobState.WAITING,
                checkout_repo_id=job.checkout_repo_id,
                checkout_sha=job.checkout_sha,
            )
        )


def _was_made_by_provider(session: Session, run: Run, job: JobRow) -> bool:
    """A custom provider's job list is made anew, so its jobs are not copied."""
    return any(other.spec["expects_jobs"] and other.id != job.id for other in jobs_of_run(session, run.id or 0))


def _free_name(clock: Clock, find: Callable[[str], object | None]) -> str:
    while True:
        name = clock.new_name()
        if find(name) is None:
            return name
