"""Reads what is told of a commit or of a run: whole lists at once, never a query per row."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from sqlmodel import Session, col, func, select

from dstack.server.models import Attempt, JobRow, Metric, NotNeeded, Run, Tag, TagMove
from dstack.server.models.run_facts import CommitFacts, RunFacts, TagFacts
from dstack.server.store.artifacts import artifacts_of_runs
from dstack.server.store.attempts import attempts_of_jobs
from dstack.server.store.carried import speaking_runs
from dstack.server.store.jobs import jobs_of_runs
from dstack.server.store.pulls import pulls_at
from dstack.server.store.runs import runs_by_id
from dstack.wire.states import JobState, Reason


def facts_of_commit(session: Session, repo_id: int, sha: str) -> CommitFacts:
    """Of its runs those that something is told of: the newest of a kind, and the newest that succeeded. Runs of working
    trees are not of the commit they were based on, and nobody's."""
    mine = (Run.repo_id == repo_id, Run.sha == sha, Run.parent_sha == "")
    kinds = (col(Run.workflow), col(Run.is_clean), col(Run.trigger), col(Run.trusted))
    aims = (col(Run.pull_request), col(Run.base_branch), col(Run.reason) == Reason.SUPERSEDED_BY)
    newest = select(func.max(Run.id)).where(*mine).group_by(*kinds, *aims)
    succeeded = (
        select(func.max(Run.id))
        .where(*mine, Run.state == JobState.SUCCEEDED)
        .group_by(col(Run.workflow), col(Run.is_clean))
    )
    telling = sorted({run_id or 0 for run_id in (*session.exec(newest), *session.exec(succeeded))})
    ids = [run_id or 0 for run_id in session.exec(select(Run.id).where(*mine)).all()]
    runs = runs_by_id(session, telling)
    not_needed = session.exec(
        select(NotNeeded).where(NotNeeded.repo_id == repo_id, NotNeeded.sha == sha).order_by(col(NotNeeded.workflow))
    ).all()
    facts = facts_of_runs(session, [runs[run_id] for run_id in telling])
    speaking = speaking_runs(session, not_needed)
    carried = dict(zip(speaking, facts_of_runs(session, list(speaking.values())), strict=True)) if speaking else {}
    return CommitFacts(sha, facts, not_needed, _tags(session, repo_id, ids), pulls_at(session, repo_id, sha), carried)


def facts_of_runs(session: Session, runs: Sequence[Run]) -> list[RunFacts]:
    """In the order given."""
    others = runs_by_id(session, [n for run in runs for n in (run.base_run_id, run.adopted_id) if n is not None])
    # A run that adopted another shows that one's artifacts as its own.
    stored = defaultdict(list)
    for artifact in artifacts_of_runs(session, [run.adopted_id or run.id or 0 for run in runs]):
        stored[artifact.run_id].append(artifact)
    jobs: dict[int, list[JobRow]] = defaultdict(list)
    for job in jobs_of_runs(session, [run.id or 0 for run in runs]):
        jobs[job.run_id].append(job)
    attempts: dict[int, list[Attempt]] = defaultdict(list)
    for attempt in attempts_of_jobs(session, [job.id or 0 for mine in jobs.values() for job in mine]):
        attempts[attempt.job_id].append(attempt)
    facts = []
    for run in runs:
        mine = [attempt for job in jobs[run.id or 0] for attempt in attempts[job.id or 0]]
        waiting = (job.waits_for for job in jobs[run.id or 0] if job.waits_for and not job.state.is_final)
        facts.append(
            RunFacts(
                run,
                waits_for=next(waiting, ""),
                runners=tuple(dict.fromkeys(a.runner_name for a in mine if not a.state.is_final)),
                base=others.get(run.base_run_id or 0),
                adopted=others.get(run.adopted_id or 0),
                artifacts=tuple(stored[run.adopted_id or run.id or 0]),
                attempts=tuple(attempt.id for attempt in mine),
                telling=_telling(jobs[run.id or 0], attempts),
            )
        )
    return facts


def _telling(jobs: Sequence[JobRow], attempts: Mapping[int, Sequence[Attempt]]) -> str:
    """The attempt whose log says most."""
    tried = [(job, attempts[job.id or 0]) for job in jobs if attempts.get(job.id or 0)]
    failed = next((mine for job, mine in tried if job.state is JobState.FAILED), None)
    last = failed or (tried[-1][1] if tried else [])
    return last[-1].id if last else ""


def newest_metrics(session: Session, attempt_ids: Sequence[str]) -> dict[str, float]:
    """Of each metric that these attempts reported, the last value."""
    last = (
        select(Metric.attempt_id, func.max(Metric.position).label("position"))
        .where(col(Metric.attempt_id).in_(attempt_ids))
        .group_by(col(Metric.attempt_id), col(Metric.name))
        .subquery()
    )
    rows = session.exec(
        select(Metric.name, Metric.value)
        .join(last, (col(Metric.attempt_id) == last.c.attempt_id) & (col(Metric.position) == last.c.position))
        .order_by(col(Metric.at))
    ).all()
    return dict(rows)


def _tags(session: Session, repo_id: int, ids: Sequence[int]) -> list[TagFacts]:
    """Where the tags that were ever moved to one of these runs stand now."""
    if not ids:
        return []
    moved = session.exec(
        select(TagMove.workflow, TagMove.name)
        .where(col(TagMove.run_id).in_(ids))
        .distinct()
        .order_by(col(TagMove.workflow), col(TagMove.name))
    ).all()
    if not moved:
        return []
    workflows = {workflow for workflow, _ in moved}
    rows = session.exec(select(Tag).where(Tag.repo_id == repo_id, col(Tag.workflow).in_(workflows))).all()
    tags = {(tag.workflow, tag.name): tag for tag in rows}
    carriers = runs_by_id(session, [tag.run_id for tag in tags.values()])
    facts = []
    for workflow, name in moved:
        tag = tags.get((workflow, name))
        run = carriers.get(tag.run_id) if tag is not None else None
        facts.append(TagFacts(f"{workflow}:{name}", run.name if run else "", run.sha if run else ""))
    return facts


def problem_of_commit(session: Session, repo_id: int, sha: str) -> NotNeeded | None:
    """Why its workflow files cannot be read, if they cannot."""
    return session.exec(
        select(NotNeeded).where(NotNeeded.repo_id == repo_id, NotNeeded.sha == sha, col(NotNeeded.is_problem).is_(True))
    ).first()
