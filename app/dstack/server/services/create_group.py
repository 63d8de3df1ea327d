"""Makes the runs that one delivery asks for, with their jobs, edges and resolved inputs, in one unit."""

from __future__ import annotations

from sqlmodel import Session

from dstack.errors import Conflict
from dstack.server.bus import QUEUE
from dstack.server.decide.plan import GroupPlan, NeedInput, RunPlan, TagInput
from dstack.server.decide.states import Event
from dstack.server.decide.trust import turn_group
from dstack.server.decide.work_key import input_of_tag, with_inputs
from dstack.server.models import Group, JobRow, Repo, Run, RunInput, RunNeed
from dstack.server.store.approvals import held_runs_of_pull
from dstack.server.store.artifacts import artifacts_of_runs
from dstack.server.store.database import wake
from dstack.server.store.github import pull_by_number
from dstack.server.store.jobs import jobs_of_run
from dstack.server.store.outbox import mark_unjudged
from dstack.server.store.repos import repo_as_written
from dstack.server.store.runs import (
    group_by_name,
    inputs_of_run,
    open_runs_of_concurrency_group,
    run_by_key,
    run_by_name,
    runs_needed_by,
)
from dstack.server.store.tags import tag_by_name
from dstack.server.transitions.adopt import adopt_equal
from dstack.server.transitions.approvals import take_approval
from dstack.server.transitions.jobs import move_job, stop_job
from dstack.server.transitions.release import release_or_wait
from dstack.wire.codec import to_dict
from dstack.wire.states import JobState, Reason


class NameTaken(Conflict):
    """A drawn run name exists already: draw again."""


def create_group(session: Session, plan: GroupPlan, now: float) -> list[Run]:
    """Write the group. Runs whose key exists already are not made again (new ones may need them); the answer holds
    only new ones. Raises NameTaken when a name is in use.
    """
    earlier = {p.workflow: run for p in plan.runs if p.key is not None and (run := run_by_key(session, p.key))}
    fresh = [run for run in plan.runs if run.workflow not in earlier]
    if not fresh:
        return []
    for run_plan in fresh:
        if run_by_name(session, run_plan.name) is not None:
            raise NameTaken(f"a run called {run_plan.name} exists")
    if group_by_name(session, plan.name) is not None:
        raise NameTaken(f"a group called {plan.name} exists")
    group = Group(name=plan.name, repo_id=plan.repo_id, delivery_id=plan.delivery_id, created_at=now)
    session.add(group)
    session.flush()
    made: dict[str, Run] = {}
    for run_plan in fresh:
        made[run_plan.workflow] = _create_run(session, group, plan, run_plan, now)
    repo = session.get(Repo, plan.repo_id)
    assert repo is not None
    for run_plan in fresh:
        run = made[run_plan.workflow]
        missing = _resolve_inputs(session, repo, run, run_plan, earlier | made)
        if repo.is_mirror:  # what it is compared with is shown on the forge while it runs
            mark_unjudged(session, run, now)
        if run_plan.problem:
            _fail(session, run, Reason.CONFIG, run_plan.problem, now)
        elif missing is not None:
            _fail(session, run, Reason.NO_SUCH_TAG, _no_such_tag(missing), now)
        else:
            _take_over(session, run, run_plan, plan, made | earlier, now)
            if not plan.is_late:
                _supersede(session, run, run_plan, now)
                _supersede_held(session, run, now)
            release_or_wait(session, run, now)
    wake(session, QUEUE)
    return list(made.values())


def _create_run(session: Session, group: Group, plan: GroupPlan, run_plan: RunPlan, now: float) -> Run:
    run = Run(
        name=run_plan.name,
        group_id=group.id or 0,
        repo_id=plan.repo_id,
        workflow=run_plan.workflow,
        sha=plan.sha,
        branch=plan.branch,
        trigger=plan.trigger,
        key=run_plan.key,
        variables=run_plan.variables,
        headline=run_plan.headline,
        better=run_plan.better,
        auto_tag=run_plan.auto_tag if plan.trusted else None,
        concurrency_group=turn_group(run_plan.concurrency_group, trusted=plan.trusted, pull_request=plan.pull_request),
        trusted=plan.trusted,
        is_clean=run_plan.is_clean,
        objects=plan.objects,
        pull_request=plan.pull_request,
        base_branch=plan.base_branch,
        needs_approval=plan.needs_approval,
        work_key=run_plan.work_key,
        gate=run_plan.gate,
        notify=run_plan.notify,
        scheduled_at=plan.scheduled_at,
        parent_sha=plan.parent_sha,
        subject=plan.subject,
        author=plan.author,
        created_by=plan.created_by,
        restarted_from=plan.restarted_from,
        created_at=now,
    )
    take_approval(session, run, now)
    session.flush()
    source = run_plan.provider_source
    for position, job in enumerate(run_plan.jobs):
        session.add(
            JobRow(
                run_id=run.id or 0,
                position=position,
                name=job.name or (run.workflow if len(run_plan.jobs) == 1 else f"{run.workflow}-{position + 1}"),
                spec=to_dict(job),
                checkout_repo_id=source.repo_id if source else None,
                checkout_sha=source.sha if source else "",
                state=JobState.WAITING,
            )
        )
    session.flush()
    return run


def _resolve_inputs(session: Session, repo: Repo, run: Run, run_plan: RunPlan, made: dict[str, Run]) -> TagInput | None:
    """Record edges and inputs; answer the first tag that does not exist."""
    for position, wanted in enumerate(run_plan.inputs):
        if isinstance(wanted, NeedInput):
            needed = made[wanted.workflow]
            session.add(RunNeed(run_id=run.id or 0, needs_id=needed.id or 0))
            source = needed.result_id
            label = ""
        else:
            found = _find_tag(session, repo, wanted)
            if found is None and wanted.optional:
                continue
            if found is None:
                return wanted
            source, label = found, wanted.label
        session.add(
            RunInput(run_id=run.id or 0, position=position, source_id=source, tag=label, copy_files=wanted.copy)
        )
    session.flush()
    return None


def _take_over(
    session: Session, run: Run, run_plan: RunPlan, plan: GroupPlan, group: dict[str, Run], now: float
) -> None:
    """Complete the work key, and adopt an equal run unless the work is wanted anew."""
    tagged = {row.tag: row.source_id for row in inputs_of_run(session, run.id or 0) if row.tag}
    inputs = []
    for wanted in run_plan.inputs:
        if isinstance(wanted, NeedInput):
            inputs.append(group[wanted.workflow].work_key)
        else:
            stored = artifacts_of_runs(session, [tagged[wanted.label]]) if wanted.label in tagged else []
            inputs.append(input_of_tag(wanted.label, [(artifact.path, artifact.digest) for artifact in stored]))
    run.work_key = with_inputs(run_plan.work_key, inputs)
    session.add(run)
    if not plan.fresh:
        adopt_equal(session, run, now)


def _find_tag(session: Session, repo: Repo, wanted: TagInput) -> int | None:
    home: Repo | None = repo
    if wanted.repo is not None:
        owner, _, name = wanted.repo.partition("/")
        home = repo_as_written(session, owner, name)
    tag = tag_by_name(session, home.id or 0, wanted.workflow, wanted.tag) if home is not None else None
    return tag.run_id if tag is not None else None


def _no_such_tag(wanted: TagInput) -> str:
    return (
        f"there is no tag {wanted.label}. Make one: `dstack run {wanted.workflow}`, then "
        f"`dstack tag RUN {wanted.tag}`; or write `{wanted.label}?` to make it optional"
    )


def _fail(session: Session, run: Run, reason: Reason, message: str, now: float) -> None:
    for job in jobs_of_run(session, run.id or 0):
        if not job.state.is_final:
            move_job(session, job, Event.FAIL, now=now, reason=reason, message=message)


def _supersede(session: Session, run: Run, run_plan: RunPlan, now: float) -> None:
    """Stop older runs of the concurrency group that have not started; running ones only if the workflow says so. Those
    of its own group, and what it needs, are not in its way but before it."""
    if not run.concurrency_group:
        return
    needed = {needed.id for needed in runs_needed_by(session, run.id or 0)}
    for older in open_runs_of_concurrency_group(session, run.repo_id, run.concurrency_group):
        if older.group_id == run.group_id or older.id in needed or older.id == run.adopted_id:
            continue
        jobs = jobs_of_run(session, older.id or 0)
        started = any(job.state.is_live for job in jobs)
        if started and not run_plan.cancel_running:
            continue
        for job in jobs:
            stop_job(session, job, now=now, reason=Reason.SUPERSEDED_BY, message=run.name)


def _supersede_held(session: Session, run: Run, now: float) -> None:
    """Stop runs that waited for the approval of an earlier head: nobody needs to look at that any more."""
    if not run.needs_approval or run.pull_request is None:
        return
    pull = pull_by_number(session, run.repo_id, run.pull_request)
    if pull is None or pull.head_sha != run.sha:
        return
    for older in held_runs_of_pull(session, run.repo_id, run.pull_request):
        if (older.sha, older.base_branch) != (run.sha, run.base_branch):
            for job in jobs_of_run(session, older.id or 0):
                stop_job(session, job, now=now, reason=Reason.SUPERSEDED_BY, message=run.name)
