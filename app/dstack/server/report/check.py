"""Composes the check run of a run: its state, a summary, what went wrong on which line, and buttons; pure.

A check is seen whole, a status in one line: both say the same. One of a run with other variables has a name of its own,
so that it cannot stand in for the one that a branch requires.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from dstack.server.gateways.forge_writes import Annotation, CheckButton, CheckWrite
from dstack.server.models import Run
from dstack.server.models.run_facts import CommitFacts, RunFacts
from dstack.server.report import status_words
from dstack.server.report.annotations import annotations_of_log, annotations_of_problems
from dstack.server.report.budget import cut, cut_start, size
from dstack.server.report.chart import Point, has_base_line, metric_chart
from dstack.server.report.markdown import code, fenced, plain, readable
from dstack.server.report.status import context_of, run_url, speakers_of, status_of, statuses_of
from dstack.server.report.templates import fill
from dstack.server.report.words import STATES, VERDICTS, change, number
from dstack.wire.states import JobState, Reason, Verdict

MOST_BYTES: Final = 65_000  # of summary and of text, each; GitHub counts to 65 535
_TITLE: Final = 250
_MOST_METRICS = 40
_MOST_ARTIFACTS = 40
_LOG_BYTES = 45_000
_MOST_REMARKS = 50
_MOST_BUTTONS = 3  # GitHub takes no more
_FROM_WORST = ("action_required", "failure", "timed_out", "cancelled", "success")
_NO_RUN = "No run was made. Check the files with `dstack lint`; Re-run reads them again.\n\n{}\n"
_SHORTENED = "\n\n(shortened; the page of the run has all of it)\n"

# What an external id begins with, by what the check is about.
OF_RUN, OF_COMMIT, OF_PROBLEMS = "run:", "commit:", "config:"
TAG_LATEST = CheckButton("Tag latest", "Let the tag `latest` stand on this run", "tag-latest")
APPROVE = CheckButton("Approve", "Let this commit run on our machines", "approve")


@dataclass(frozen=True, slots=True)
class CheckDetail:
    """What a check shows beside the run's facts. `metrics` are the newest ones while it runs; `log` its end, masked
    already; points are (step, value) of the headline metric."""

    log: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    points: Sequence[Point] = ()
    base_points: Sequence[Point] = ()


def check_of_run(facts: RunFacts, detail: CheckDetail, public_url: str, *, is_spoken_over: bool = False) -> CheckWrite:
    """`external_id` is `run:NAME`. A push's is named as one where that of a pull request counts: of two that are named
    alike the forge looks at the last, and running the push's again would take the place of a gate that failed."""
    run = facts.run
    status, conclusion = _status(run)
    _, title = status_of(facts)
    return CheckWrite(
        name=context_of(run).replace("/", " / ", 1) + (" (push)" if is_spoken_over else ""),
        sha=run.sha,
        external_id=f"{OF_RUN}{run.name}",
        url=run_url(public_url, run),
        status=status,
        title=title[:_TITLE],
        summary=_within(summary_of(facts, detail.metrics or run.metrics, public_url)),
        text=_text(run, detail),
        conclusion=conclusion,
        annotations=_annotations(facts, detail),
        buttons=_buttons(run, conclusion),
        started_at=run.started_at,
        completed_at=(run.finished_at or run.created_at) if conclusion else None,
    )


def _status(run: Run) -> tuple[str, str]:
    """GitHub's status and conclusion; the latter empty while it goes on."""
    if run.is_held and not run.state.is_final:
        return "completed", "action_required"
    if run.state is JobState.SUCCEEDED:
        if run.verdict is Verdict.PENDING or (run.gate is not None and run.verdict is None):
            return "in_progress", ""
        return "completed", "failure" if run.verdict is Verdict.FAILED else "success"
    if run.state.is_final:
        return "completed", _bad_end(run)
    return "in_progress" if run.state.is_live else "queued", ""


def _bad_end(run: Run) -> str:
    if run.state is JobState.STOPPED:
        return "cancelled"
    if run.state is JobState.SKIPPED and run.reason is Reason.NOT_NEEDED:
        return "neutral"
    return "timed_out" if run.reason is Reason.TIMEOUT else "failure"


def _buttons(run: Run, conclusion: str) -> tuple[CheckButton, ...]:
    """They are shown after completion alone, and tags are not for strangers' runs."""
    if conclusion == "action_required":
        return (APPROVE,)
    return (TAG_LATEST,) if conclusion == "success" and run.trusted else ()


def summary_of(facts: RunFacts, metrics: Mapping[str, float], public_url: str) -> str:
    """Markdown: what became of it, with numbers."""
    run, base, adopted = facts.run, facts.base, facts.adopted
    is_bad = run.state.is_final and run.state is not JobState.SUCCEEDED
    return fill(
        "run.md",
        run=run,
        url=run_url(public_url, run),
        state=STATES[run.state],
        why=plain(status_words.why_ended(run), 1000) if is_bad else "",
        verdict=_verdict(run),
        took=status_words.run_duration(run),
        runners=", ".join(plain(name, 100) for name in facts.runners),
        same_as=adopted,
        same_as_url=run_url(public_url, adopted) if adopted is not None else "",
        variables=_variables(run),
        files_of_base="" if run.trusted else code(run.base_branch, 200),
        is_final=run.state.is_final,
        held=status_words.short(run.sha) if run.is_held else "",
        metrics=_metrics(run, metrics, base.metrics if base is not None else {}),
        metrics_left_out=max(0, len(metrics) - _MOST_METRICS),
        base=base,
        base_url=run_url(public_url, base) if base is not None else "",
        artifacts=_artifacts(facts),
    )


def _verdict(run: Run) -> str:
    if run.gate is None:
        return ""
    words = VERDICTS[run.verdict] if run.verdict is not None else "judging"
    return f"{words}: {plain(run.verdict_why)}" if run.verdict_why else words


def _variables(run: Run) -> str:
    return ", ".join(code(f"{name}={value}", 100) for name, value in sorted(run.variables.items())[:20])


def _metrics(run: Run, metrics: Mapping[str, float], base: Mapping[str, float]) -> list[dict[str, str]]:
    """The headline first."""
    rows = []
    for name in sorted(metrics, key=lambda name: (name != run.headline, name))[:_MOST_METRICS]:
        moved = change(metrics[name], base.get(name), run.better if name == run.headline else "")
        rows.append(
            {
                "name": plain(name, 100),
                "value": number(metrics[name]),
                "before": number(base[name]) if name in base else "",
                "change": f"{moved.text} {moved.tone}".strip() if moved is not None else "",
            }
        )
    return rows


def _artifacts(facts: RunFacts) -> list[dict[str, object]]:
    return [
        {
            "path": code(artifact.path, 200),
            "size": status_words.size(artifact.bytes),
            "files": artifact.files,
            "digest": f"sha256:{artifact.digest.removeprefix('sha256:')[:12]}",
        }
        for artifact in facts.artifacts[:_MOST_ARTIFACTS]
    ]


def _text(run: Run, detail: CheckDetail) -> str:
    """The plot and the end of the log; of a long log only as much of its end as there is room for."""
    chart = metric_chart(run.headline, detail.points, detail.base_points) if run.headline else ""
    if chart:
        lines = f"{plain(run.headline or '', 100)} over steps" + (", and its base" if has_base_line(chart) else "")
        chart = f"{lines}\n\n{chart}\n\n"
    room = _LOG_BYTES
    while room > 0 and detail.log.strip():
        text = f"{chart}### End of the log\n\n{fenced(cut_start(unrolled(detail.log), room))}\n"
        if size(text) <= MOST_BYTES:
            return text
        room //= 2  # what is cut inside takes room itself
    return _within(chart)


def unrolled(log: str) -> str:
    """As a terminal shows it in the end: of a line that was written over again and again, the last."""
    lines = (line.rstrip("\r").rpartition("\r")[2] for line in log.split("\n"))
    return readable("\n".join(lines))


def _annotations(facts: RunFacts, detail: CheckDetail) -> tuple[Annotation, ...]:
    if facts.run.state is not JobState.FAILED:
        return ()
    if facts.run.reason is Reason.CONFIG:
        return annotations_of_problems(facts.run.message)
    return annotations_of_log(detail.log, facts.attempts)


def _within(text: str) -> str:
    return text if size(text) <= MOST_BYTES else cut(text, MOST_BYTES - size(_SHORTENED)) + _SHORTENED


def check_of_commit(commit: CommitFacts, details: Mapping[str, CheckDetail], public_url: str, now: float) -> CheckWrite:
    """One for all runs of a commit; `details` by the name of the run. `external_id` is `commit:SHA`."""
    speaking = speakers_of(commit)
    mine = {
        facts.run.name: (facts, check_of_run(facts, details[facts.run.name], public_url)) for facts in speaking.values()
    }
    checks = [check for _, check in mine.values()]
    conclusion = _worst(checks)
    statuses = statuses_of(replace(commit, tags=()), public_url, now)
    lines = [f"- **{plain(s.context, 100)}**: [{s.state.value}]({s.url}) {plain(s.text)}" for s in statuses]
    parts = [f"## {check.name}\n\n{check.summary}" for check in checks]
    began = [run.started_at for run in (facts.run for facts, _ in mine.values()) if run.started_at is not None]
    return CheckWrite(
        name="dstack",
        sha=commit.sha,
        external_id=f"{OF_COMMIT}{commit.sha}",
        url=f"{public_url}/runs?sha={commit.sha}",
        status="completed" if conclusion else "in_progress" if began else "queued",
        title=_how_many(checks),
        summary=_within("\n".join([*lines, "", *parts])),
        text=next((check.text for check in checks if check.annotations), ""),
        conclusion=conclusion,
        annotations=tuple(remark for check in checks for remark in check.annotations)[:_MOST_REMARKS],
        buttons=_buttons_of_commit([facts.run for facts in commit.runs], [f.run for f, _ in mine.values()], conclusion),
        started_at=min(began, default=None),
        completed_at=max((check.completed_at or 0 for check in checks), default=None) if conclusion else None,
    )


def _buttons_of_commit(runs: Sequence[Run], shown: Sequence[Run], conclusion: str) -> tuple[CheckButton, ...]:
    """Each says which run it is about, `approve:7`. An approval is of a pull request: there is a button for each that
    waits for one. A tag is of a workflow: there is a button where one alone has run."""
    if conclusion == "success" and len(shown) == 1 and shown[0].trusted:
        return (_about(TAG_LATEST, shown[0], TAG_LATEST.label),)
    held = {run.pull_request: run for run in runs if run.is_held and not run.state.is_final}
    if conclusion != "action_required":
        return ()
    label = APPROVE.label if len(held) == 1 else f"{APPROVE.label} #{{}}"
    return tuple(_about(APPROVE, run, label.format(number)) for number, run in held.items())[:_MOST_BUTTONS]


def _about(button: CheckButton, run: Run, label: str) -> CheckButton:
    return replace(button, label=label[:20], identifier=f"{button.identifier}:{run.id}")


def _worst(checks: Sequence[CheckWrite]) -> str:
    """Empty while one goes on."""
    if any(not check.conclusion for check in checks):
        return ""
    found = {check.conclusion for check in checks}
    return next((one for one in _FROM_WORST if one in found), "neutral")


def _how_many(checks: Sequence[CheckWrite]) -> str:
    """`2 success, 1 failure`."""
    words = [check.conclusion.replace("_", " ") or check.status.replace("_", " ") for check in checks]
    return ", ".join(f"{words.count(word)} {word}" for word in dict.fromkeys(words))


def check_of_problems(sha: str, why: str, public_url: str) -> CheckWrite:
    """Of a commit whose files cannot be read: every problem on its line; `why` is empty where they could be since.
    `external_id` is `config:SHA`."""
    text = why.removeprefix("config error: ")
    return CheckWrite(
        name="dstack / config",
        sha=sha,
        external_id=f"{OF_PROBLEMS}{sha}",
        url=public_url,
        status="completed",
        title=status_words.one_line(text, _TITLE) or status_words.READ_SINCE,
        summary=_within(_NO_RUN.format(fenced(cut(text, 30_000)))) if text else status_words.READ_SINCE,
        conclusion="failure" if text else "success",
        annotations=annotations_of_problems(text),
    )
