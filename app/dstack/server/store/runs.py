"""Runs, the runs they need, and the inputs they were given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlmodel import Session, col, func, select

from dstack.server.models import Group, Run, RunInput, RunNeed
from dstack.wire.states import FINAL_STATES, JobState, Trigger


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs to list; empty means any. `before` is the cursor: only runs with a smaller id."""

    repo_id: int | None = None
    workflow: str = ""
    branch: str = ""
    state: str = ""
    active: bool = False  # only those that have not ended
    sha: str = ""
    trigger: str = ""
    pull_request: int | None = None
    before: int | None = None


def run_by_name(session: Session, name: str) -> Run | None:
    return session.exec(select(Run).where(Run.name == name)).first()


def run_by_id(session: Session, run_id: int) -> Run:
    run = session.get(Run, run_id)
    assert run is not None, f"run {run_id} is referred to and must exist"
    return run


def runs_by_id(session: Session, ids: Sequence[int]) -> dict[int, Run]:
    rows = session.exec(select(Run).where(col(Run.id).in_(ids))).all() if ids else []
    return {row.id: row for row in rows if row.id is not None}


def run_by_key(session: Session, key: str) -> Run | None:
    return session.exec(select(Run).where(Run.key == key)).first()


def list_runs(session: Session, want: RunFilter, limit: int) -> Sequence[Run]:
    """Newest first."""
    query = select(Run).order_by(col(Run.id).desc()).limit(limit)
    if want.repo_id is not None:
        query = query.where(Run.repo_id == want.repo_id)
    if want.workflow:
        query = query.where(Run.workflow == want.workflow)
    if want.branch:
        query = query.where(Run.branch == want.branch)
    if want.state:
        query = query.where(Run.state == JobState(want.state))
    if want.active:
        query = query.where(col(Run.state).not_in(FINAL_STATES))
    if want.sha:
        query = query.where(Run.sha == want.sha)
    if want.trigger:
        query = query.where(Run.trigger == Trigger(want.trigger))
    if want.pull_request is not None:
        query = query.where(Run.pull_request == want.pull_request)
    if want.before is not None:
        query = query.where(col(Run.id) < want.before)
    return session.exec(query).all()


def group_by_name(session: Session, name: str) -> Group | None:
    return session.exec(select(Group).where(Group.name == name)).first()


def runs_of_group(session: Session, group_id: int) -> Sequence[Run]:
    return session.exec(select(Run).where(Run.group_id == group_id).order_by(col(Run.id))).all()


def runs_of_delivery(session: Session, delivery_id: int) -> Sequence[Run]:
    """All runs that came of it."""
    return session.exec(
        select(Run).join(Group, col(Group.id) == Run.group_id).where(Group.delivery_id == delivery_id)
    ).all()


def clean_runs_at(session: Session, repo_id: int, sha: str) -> Sequence[Run]:
    """Clean runs of a commit, oldest first."""
    return session.exec(
        select(Run).where(Run.repo_id == repo_id, Run.sha == sha, col(Run.is_clean)).order_by(col(Run.id))
    ).all()


def runs_of_push(session: Session, repo_id: int, ref: str, sha: str) -> list[Run]:
    """Those that a push of this commit to this ref made, newest first."""
    return runs_of_event(session, repo_id, sha, push_key(repo_id, ref, sha))


def runs_of_event(session: Session, repo_id: int, sha: str, key: str) -> list[Run]:
    """Those that an event made whose part of the natural key is this, and that hold theirs, newest first."""
    at_sha = select(Run).where(Run.repo_id == repo_id, Run.sha == sha, Run.trigger == Trigger.PUSH)
    found = session.exec(at_sha.order_by(col(Run.id).desc())).all()
    return [run for run in found if run.key is not None and run.key.startswith(f"{key}:")]


def open_pushed_in_turn(session: Session, repo_id: int, ref: str) -> list[Run]:
    """Those that pushes to this branch made, that take turns and have not ended, oldest first."""
    begin = f"push:{repo_id}:{ref}:"
    query = select(Run).where(
        col(Run.concurrency_group).is_not(None),
        col(Run.state).not_in(FINAL_STATES),
        Run.repo_id == repo_id,
        Run.branch == ref.removeprefix("refs/heads/"),
        Run.trigger == Trigger.PUSH,
    )
    found = session.exec(query.order_by(col(Run.id))).all()
    return [run for run in found if run.key is not None and run.key.startswith(begin)]


def push_key(repo_id: int, ref: str, sha: str) -> str:
    """What the natural keys of the runs of a push begin with."""
    return f"push:{repo_id}:{ref}:{sha}"


def states_in_group(session: Session, group_id: int) -> Sequence[JobState]:
    """Each state that a run of the group is in, once: a group may have hundreds of runs, and this is asked often."""
    states = session.exec(select(Run.state).where(Run.group_id == group_id).distinct()).all()
    return [JobState(state) for state in states]


def runs_needed_by(session: Session, run_id: int) -> Sequence[Run]:
    """The runs that `run_id` waits for."""
    return session.exec(
        select(Run).join(RunNeed, col(RunNeed.needs_id) == Run.id).where(RunNeed.run_id == run_id)
    ).all()


def runs_that_need(session: Session, run_id: int) -> Sequence[Run]:
    """The runs that wait for `run_id`."""
    return session.exec(
        select(Run).join(RunNeed, col(RunNeed.run_id) == Run.id).where(RunNeed.needs_id == run_id)
    ).all()


def needs_of_runs(session: Session, ids: Sequence[int]) -> dict[int, list[int]]:
    """Run id -> ids of the runs it needs."""
    found: dict[int, list[int]] = {}
    for edge in session.exec(select(RunNeed).where(col(RunNeed.run_id).in_(ids))).all() if ids else []:
        found.setdefault(edge.run_id, []).append(edge.needs_id)
    return found


def inputs_of_run(session: Session, run_id: int) -> Sequence[RunInput]:
    return session.exec(select(RunInput).where(RunInput.run_id == run_id).order_by(col(RunInput.position))).all()


def open_runs_of_concurrency_group(session: Session, repo_id: int, group: str) -> Sequence[Run]:
    """Runs of a concurrency group that have not ended, oldest first."""
    return session.exec(
        select(Run)
        .where(Run.repo_id == repo_id, Run.concurrency_group == group, col(Run.state).not_in(FINAL_STATES))
        .order_by(col(Run.id))
    ).all()


def runs_of_noted_commit(session: Session, repo_id: int, sha: str) -> Sequence[Run]:
    """Finished runs whose note stands on this commit, oldest first."""
    return session.exec(
        select(Run)
        .where(
            Run.repo_id == repo_id,
            ((Run.sha == sha) & (Run.parent_sha == "")) | (Run.parent_sha == sha),
            col(Run.state).in_(FINAL_STATES),
        )
        .order_by(col(Run.id))
    ).all()


def previous_successes(session: Session, runs: Sequence[Run]) -> dict[int, Run]:
    """For each run, the newest succeeded one of its workflow and repo before it, in one query a workflow."""
    found: dict[int, Run] = {}
    for repo_id, workflow in {(run.repo_id, run.workflow) for run in runs}:
        mine = [run for run in runs if (run.repo_id, run.workflow) == (repo_id, workflow)]
        newest = max(run.id or 0 for run in mine)
        earlier = session.exec(
            select(Run)
            .where(
                Run.repo_id == repo_id,
                Run.workflow == workflow,
                Run.state == JobState.SUCCEEDED,
                col(Run.id) < newest,
            )
            .order_by(col(Run.id).desc())
            .limit(len(mine) + 1)
        ).all()
        for run in mine:
            before = next((other for other in earlier if (other.id or 0) < (run.id or 0)), None)
            if before is not None:
                found[run.id or 0] = before
    return found


def count_runs(session: Session, repo_id: int) -> int:
    return session.exec(select(func.count()).select_from(Run).where(Run.repo_id == repo_id)).one()
