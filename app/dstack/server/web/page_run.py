"""Reads what the list of runs and the page of one run show, with where it stands on the forge."""

from __future__ import annotations

from collections.abc import Sequence

from sqlmodel import Session

from dstack.server.decide.budget import name_budget
from dstack.server.models import Attempt, Run
from dstack.server.store.artifacts import artifacts_of_runs
from dstack.server.store.attempts import attempts_of_jobs
from dstack.server.store.github import approval_of, pull_by_number
from dstack.server.store.jobs import jobs_of_run
from dstack.server.store.metrics import metric_points
from dstack.server.store.page_queries import refused_about, restarts_of
from dstack.server.store.repos import repo_by_id
from dstack.server.store.runs import inputs_of_run, previous_successes, runs_by_id, runs_of_group
from dstack.server.store.views import iso_or_none, view_runs
from dstack.server.web.render.forge_links import ForgeLinks, refusal
from dstack.server.web.render.models import (
    AttemptData,
    InputData,
    Neighbour,
    Provenance,
    RunData,
    RunRow,
    Series,
)
from dstack.server.web.render.words import trigger_words

_POINTS = 5_000


def run_rows(session: Session, runs: Sequence[Run], github_url: str) -> list[RunRow]:
    """Rows in the order given, in a fixed number of questions."""
    links = _links(session, runs, github_url)
    return [
        RunRow(
            view,
            run.subject,
            run.author,
            run.better,
            view.base_metrics if view.base_run else view.previous_metrics,
            # A working tree was never pushed to the forge: the commit it was on is there.
            commit_url=links[run.repo_id].commit(run.noted_sha),
            pull_url=links[run.repo_id].pull(run.pull_request),
            is_held=run.is_held and not run.state.is_final,
        )
        for run, view in zip(runs, view_runs(session, runs), strict=True)
    ]


def run_data(session: Session, run: Run, github_url: str) -> RunData:
    """All that is shown of one run. One that has another's result shows its curves, too."""
    jobs = jobs_of_run(session, run.id or 0)
    names = {job.id or 0: job.name for job in jobs}
    attempts = attempts_of_jobs(session, list(names))
    done = attempts if run.result_id == run.id else _attempts_of(session, run.result_id)
    previous = previous_successes(session, [run]).get(run.id or 0)
    group = view_runs(session, runs_of_group(session, run.group_id))
    pull = None if run.pull_request is None else pull_by_number(session, run.repo_id, run.pull_request)
    return RunData(
        row=run_rows(session, [run], github_url)[0],
        attempts=[attempt_data(attempt, names[attempt.job_id]) for attempt in attempts],
        group=[Neighbour(view.name, view.workflow, view.state, view.needs) for view in group],
        inputs=_inputs(session, run),
        series=_series(session, done),
        report=run.report,
        previous_run=previous.name if previous else "",
        provenance=Provenance(_facts(session, run, list(attempts))),
        restarted_as=restarts_of(session, run.name),
        pull_title=pull.title if pull else "",
        scheduled_at=iso_or_none(run.scheduled_at),
        refused=[refusal(row.kind, row.target, row.problem) for row in refused_about(session, run)],
    )


def _links(session: Session, runs: Sequence[Run], github_url: str) -> dict[int, ForgeLinks]:
    repos = [repo_by_id(session, repo_id) for repo_id in {run.repo_id for run in runs}]
    return {repo.id or 0: ForgeLinks.of(github_url, repo.full_name, is_mirror=repo.is_mirror) for repo in repos}


def _attempts_of(session: Session, run_id: int) -> Sequence[Attempt]:
    return attempts_of_jobs(session, [job.id or 0 for job in jobs_of_run(session, run_id)])


def _series(session: Session, attempts: Sequence[Attempt]) -> Series:
    """Points of the newest attempt of each job; a job that was tried again tells its story anew."""
    series: Series = {}
    newest = {attempt.job_id: attempt.id for attempt in attempts}
    for attempt_id in newest.values():
        for name, step, value in metric_points(session, attempt_id, _POINTS):
            series.setdefault(name, []).append((step, value))
    return {name: sorted(points) for name, points in series.items()}


def _inputs(session: Session, run: Run) -> list[InputData]:
    wanted = inputs_of_run(session, run.id or 0)
    sources = runs_by_id(session, [row.source_id for row in wanted])
    stored = artifacts_of_runs(session, list(sources))
    return [
        InputData(a.path, row.tag or sources[row.source_id].workflow, sources[row.source_id].name, a.digest)
        for row in wanted
        for a in stored
        if a.run_id == row.source_id
    ]


def _facts(session: Session, run: Run, attempts: list[Attempt]) -> list[tuple[str, str]]:
    why, by = trigger_words(run.trigger), run.created_by
    facts = [("Commit", run.sha), ("Started by", f"{by} ({why})" if by and by != why else why)]
    if run.parent_sha:
        facts.insert(1, ("Working tree on top of", run.parent_sha))
    if attempts:
        facts.append(("Runner", attempts[-1].runner_name))
        if attempts[-1].devices:
            facts.append(("GPUs", ", ".join(attempts[-1].devices)))
    facts.append(("Repository", repo_by_id(session, run.repo_id).full_name))
    if run.approved_by:
        facts.append(("Approved by", run.approved_by + _budget(session, run)))
    return facts


def _budget(session: Session, run: Run) -> str:
    """What the approval grants, where it says so."""
    approval = approval_of(session, run.repo_id, run.pull_request or 0, run.sha)
    return "" if approval is None or approval.gpu_seconds is None else f", for {name_budget(approval.gpu_seconds)}"


def attempt_data(attempt: Attempt, job: str) -> AttemptData:
    return AttemptData(
        id=attempt.id,
        job=job,
        number=attempt.number,
        state=attempt.state.value,
        reason=attempt.reason.value if attempt.reason else "",
        message=attempt.message,
        runner=attempt.runner_name,
        exit_code=attempt.exit_code,
        step=attempt.step,
        started_at=iso_or_none(attempt.accepted_at),
        finished_at=iso_or_none(attempt.finished_at),
    )
