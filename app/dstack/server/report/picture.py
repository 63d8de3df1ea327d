"""Composes what the comment of a pull request shows from the rows that say it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dstack.server.decide.speaking import who_speaks
from dstack.server.models import NotNeeded, PullRequest, Run
from dstack.server.report.chart import Point
from dstack.server.report.comment import PullPicture, RunLine
from dstack.server.report.status_words import clock
from dstack.server.report.voices import voice_of
from dstack.wire.states import JobState, Verdict

MOST_OLDER = 40
_MOST_VARIABLES = 4


@dataclass(frozen=True, slots=True)
class Beside:
    """What is known of runs beside their rows. Keys are ids of runs; `others` are those they refer to (base, adopted);
    `points` are those of the headline metric."""

    others: Mapping[int, Run] = field(default_factory=dict)
    needs: Mapping[int, Sequence[str]] = field(default_factory=dict)
    waits: Mapping[int, str] = field(default_factory=dict)
    points: Mapping[int, Sequence[Point]] = field(default_factory=dict)


def newest_at(runs: Sequence[Run], pull: PullRequest) -> tuple[list[Run], list[Run]]:
    """Of runs (newest first): those at the head, oldest first, and those before it; of the same work the one that
    speaks, so that a restart takes the place of what it repeats, and a push's run none of the pull request's own."""
    same: dict[tuple[object, ...], list[Run]] = {}
    for run in reversed(runs):
        same.setdefault((run.sha, run.workflow, run.is_clean or tuple(sorted(run.variables.items()))), []).append(run)
    aims = [(pull.number, pull.base_branch)] if pull.is_open else []
    spoken = {run_id for work in same.values() for run_id in who_speaks([voice_of(run) for run in work], aims)}
    kept = [run for run in runs if run.id in spoken]
    return [run for run in reversed(kept) if run.sha == pull.head_sha], [r for r in kept if r.sha != pull.head_sha]


def picture_of(
    pull: PullRequest, runs: Sequence[Run], facts: Beside, not_needed: Sequence[NotNeeded], repo: str, url: str
) -> PullPicture:
    """`runs` newest first; `url` is the server's address for people."""
    head, older = newest_at(runs, pull)
    clean = {run.workflow: run.variables for run in head if run.is_clean}
    return PullPicture(
        head_sha=pull.head_sha,
        base_branch=pull.base_branch,
        lines=tuple(_line(run, facts, clean.get(run.workflow, {}), url) for run in head),
        older=tuple(_line(run, facts, clean.get(run.workflow, {}), url) for run in older[:MOST_OLDER]),
        notes=tuple(_note(row) for row in not_needed if all(run.workflow != row.workflow for run in head)),
        all_runs_url=f"{url}/runs?repo={repo}",
    )


def _line(run: Run, facts: Beside, usual: Mapping[str, str], url: str) -> RunLine:
    run_id = run.id or 0
    base = facts.others.get(run.base_run_id or 0)
    adopted = facts.others.get(run.adopted_id or 0)
    points = tuple(facts.points.get(run_id, ()))
    return RunLine(
        name=run.name,
        workflow=run.workflow,
        sha=run.sha,
        url=f"{url}/runs/{run.name}",
        state=run.state,
        reason=run.reason,
        message=run.message,
        waits_for=facts.waits.get(run_id, ""),
        needs=tuple(facts.needs.get(run_id, ())),
        note="" if run.is_clean else _what_differs(run, usual),
        seconds=run.finished_at - run.started_at if run.finished_at and run.started_at else None,
        since=clock(run.started_at) if run.started_at else "",
        headline=run.headline or "",
        value=_headline(run, points),
        base=base.name if base else "",
        base_value=base.metrics.get(run.headline or "") if base else None,
        better=run.better,
        verdict=Verdict.PENDING
        if run.gate and run.state is JobState.SUCCEEDED and run.verdict is None
        else run.verdict,
        verdict_why=run.verdict_why,
        same_as=adopted.name if adopted else "",
        held=run.is_held and not run.state.is_final,
        report=run.report,
        points=points,
        base_points=tuple(facts.points.get(run.base_run_id or 0, ())),
    )


def _headline(run: Run, points: Sequence[Point]) -> float | None:
    """The final value, else the last one reported."""
    final = run.metrics.get(run.headline or "")
    return final if final is not None else points[-1][1] if points else None


def _what_differs(run: Run, usual: Mapping[str, str]) -> str:
    """Why there is another run of a workflow: what started it, and the variables that are its own."""
    own = [f"{name}={value[:40]}" for name, value in sorted(run.variables.items()) if usual.get(name) != value]
    more = [f"{len(own) - _MOST_VARIABLES} more"] if len(own) > _MOST_VARIABLES else []
    return " ".join([run.trigger.value, *own[:_MOST_VARIABLES], *more])


def _note(row: NotNeeded) -> str:
    return row.why if row.is_problem else f"{row.workflow}: {row.why}"
