"""Writes the one comment of a pull request: its runs against the base, charts, reports, and the earlier commits."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from dstack.server.report.budget import COMMENT_BYTES, cut, fitted
from dstack.server.report.chart import Point, has_base_line, metric_chart
from dstack.server.report.markdown import closed, code, neutral, plain, tagged
from dstack.server.report.templates import fill
from dstack.server.report.words import STATES, VERDICTS, change, duration, number, why
from dstack.wire.states import JobState, Reason, Verdict

MARKER: Final = "<!-- dstack:pull -->"
HEADER: Final = "| Workflow | State | Time | Result | Against base | Run |\n|---|---|---|---|---|---|"
_ARROWS: Final = {"better": "▲ better", "worse": "▼ worse", "same": "same", "": ""}


@dataclass(frozen=True, slots=True)
class RunLine:
    """One run as the comment shows it. `seconds` is how long it took, `since` (`14:02 UTC`) when it began while it goes
    on. `value` is its headline metric, the last one known; `note` tells it apart from others of its workflow."""

    name: str
    workflow: str
    sha: str
    url: str
    state: JobState
    reason: Reason | None = None
    message: str = ""
    waits_for: str = ""
    needs: tuple[str, ...] = ()
    note: str = ""
    seconds: float | None = None
    since: str = ""
    headline: str = ""
    value: float | None = None
    base: str = ""  # the run it is compared with
    base_value: float | None = None
    better: str = ""
    verdict: Verdict | None = None
    verdict_why: str = ""
    same_as: str = ""
    held: bool = False  # until somebody approves its commit
    report: str = ""
    points: tuple[Point, ...] = ()
    base_points: tuple[Point, ...] = ()


@dataclass(frozen=True, slots=True)
class PullPicture:
    """A pull request as its comment shows it. `lines` are the runs at its head, `older` those at heads before, newest
    first; `notes` are sentences about workflows that made no run. The rest says how much there is room for."""

    head_sha: str
    base_branch: str
    lines: tuple[RunLine, ...]
    older: tuple[RunLine, ...] = ()
    notes: tuple[str, ...] = ()
    all_runs_url: str = ""
    report_bytes: int = COMMENT_BYTES  # of each report
    charts: int = 4
    left_out: int = 0  # rows, from the end


def render_comment(picture: PullPicture, most: int = COMMENT_BYTES) -> str:
    """The whole comment in at most `most` bytes: reports are shortened first, then charts, earlier commits and rows."""
    neutral_once = tuple(replace(line, report=neutral(line.report, line.url)) for line in picture.lines)
    return fitted(_render, replace(picture, lines=neutral_once), _SHORTER, most)


def outline(picture: PullPicture) -> str:
    """What of a picture is worth telling at once: all but the progress of what goes on."""
    return repr((picture.head_sha, [*map(_standing, picture.lines)], picture.older, picture.notes))


def _standing(line: RunLine) -> RunLine:
    """A run that goes on without its progress: where in its work it is, what it waits for, its numbers so far."""
    if line.state.is_final:
        return line
    state = JobState.RUNNING if line.state.is_live else JobState.QUEUED
    return replace(line, state=state, waits_for="", value=None, points=(), base_points=())


def _reports(most: int) -> Callable[[PullPicture], PullPicture]:
    return lambda picture: replace(picture, report_bytes=most)


def _charts(most: int) -> Callable[[PullPicture], PullPicture]:
    return lambda picture: replace(picture, charts=most)


def _older(most: int) -> Callable[[PullPicture], PullPicture]:
    return lambda picture: replace(picture, older=picture.older[:most])


def _rows(most: int) -> Callable[[PullPicture], PullPicture]:
    def shorten(picture: PullPicture) -> PullPicture:
        kept = picture.lines[:most]
        left_out = picture.left_out + len(picture.lines) - len(kept)
        return replace(picture, lines=kept, notes=picture.notes[:most], left_out=left_out)

    return shorten


_SHORTER: Final = (
    *map(_reports, (24_000, 12_000, 6_000, 3_000, 1_000, 0)),
    *map(_charts, (1, 0)),
    *map(_older, (10, 0)),
    *map(_rows, (60, 30, 15, 8, 4)),
)


def _render(picture: PullPicture) -> str:
    return fill(
        "pull.md",
        marker=MARKER,
        runs_as_json=_machine_readable(picture.lines),
        summary=summary(picture.lines),
        head=code(picture.head_sha[:7]),
        base=code(picture.base_branch, 100),
        table="\n".join([HEADER, *map(_row, picture.lines)]),
        rows_left_out=picture.left_out,
        all_runs=f"[all runs]({picture.all_runs_url})",
        remarks=_remarks(picture),
        drawings=_drawings(picture),
        reports=[_report(line, picture.report_bytes) for line in picture.lines if line.report.strip()],
        earlier=_earlier(picture.older),
    )


def _machine_readable(lines: Sequence[RunLine]) -> str:
    """For scripts: the runs of the head. What could end the HTML comment is written as JSON escapes."""
    runs = [
        {
            "name": line.name,
            "workflow": line.workflow,
            "sha": line.sha,
            "state": line.state.value,
            "verdict": line.verdict.value if line.verdict else None,
        }
        for line in lines
    ]
    text = json.dumps({"runs": runs}, separators=(",", ":"))
    text = text.replace("<", "\\u003c").replace(">", "\\u003e").replace("--", "-\\u002d")
    return f"<!-- dstack:runs {text} -->"


def summary(lines: Sequence[RunLine]) -> str:
    """How the head stands, in a few words."""
    if any(line.held for line in lines):
        return "waits for approval"
    judged = [line for line in lines if not line.note] or lines  # not those that somebody tries other values with
    gates = [line for line in judged if line.verdict is Verdict.FAILED]
    bad = [line for line in judged if line.state is JobState.FAILED]
    going = [line for line in lines if not line.state.is_final]
    if bad or gates:
        told = [f"{', '.join(_names(bad))} failed"] if bad else []
        told += [f"the gate of {', '.join(_names(gates))} failed"] if gates else []
        return " and ".join(told)
    if going:
        return f"{', '.join(_names(going))} {'goes' if len(_names(going)) == 1 else 'go'} on"
    pending = [line for line in lines if line.verdict is Verdict.PENDING]
    if pending:
        return f"done; the gate of {', '.join(_names(pending))} is pending"
    if lines and all(line.state is JobState.SUCCEEDED for line in judged):
        return "all passed" if len(judged) > 1 else "passed"
    return "done" if lines else "nothing runs"


def _names(lines: Sequence[RunLine]) -> list[str]:
    names = list(dict.fromkeys(plain(line.workflow, 100) for line in lines))
    return names if len(names) <= 4 else [*names[:3], f"{len(names) - 3} more"]


def _title(line: RunLine) -> str:
    """Its workflow, told apart from other runs of it."""
    return f"**{plain(line.workflow, 100)}**" + (f" ({plain(line.note, 80)})" if line.note else "")


def _row(line: RunLine) -> str:
    workflow = _title(line)
    if line.needs:
        workflow += f" ← {plain(', '.join(line.needs), 100)}"
    time = duration(line.seconds) if line.seconds is not None else f"since {line.since}" if line.since else ""
    cells = (workflow, _state(line), time, _result(line), _against(line), f"[{plain(line.name, 100)}]({line.url})")
    return f"| {' | '.join(cells)} |"


def _state(line: RunLine) -> str:
    if line.held:
        return "✋ waits for approval"
    if line.same_as:
        return f"{STATES[line.state]}, same as {plain(line.same_as, 100)}"
    if line.state is JobState.SUCCEEDED and line.verdict in (Verdict.FAILED, Verdict.PENDING):
        return f"{'❌' if line.verdict is Verdict.FAILED else '⏳'} {VERDICTS[line.verdict]}"
    return STATES[line.state]


def _result(line: RunLine) -> str:
    return f"{plain(line.headline, 60)} {number(line.value)}" if line.headline and line.value is not None else ""


def _against(line: RunLine) -> str:
    if line.value is None:
        return ""
    moved = change(line.value, line.base_value, line.better)
    if moved is None or line.base_value is None:
        return VERDICTS[Verdict.NO_BASE] if line.verdict is Verdict.NO_BASE else ""
    words = _ARROWS[moved.tone] if line.verdict is not Verdict.WITHIN_NOISE else VERDICTS[line.verdict]
    return f"{moved.text} {words} ({number(line.base_value)} in {plain(line.base, 100)})".replace("  ", " ")


def _remarks(picture: PullPicture) -> list[str]:
    """Why each run stands as it does, where the table does not say it all; what holds for several is said once."""
    said = list(dict.fromkeys(f"{_title(line)}: {words}" for line in picture.lines if (words := _remark(line))))
    if any(line.held for line in picture.lines):
        command = f"/dstack approve {picture.head_sha[:7]}"
        said.insert(
            0,
            f"Runs of a fork wait until somebody with write access has looked at the code and comments `{command}`; "
            "a new commit needs a new approval.",
        )
    return [*said, *map(plain, picture.notes)]


def _remark(line: RunLine) -> str:
    if line.held:
        return ""
    if line.state is JobState.SUCCEEDED and line.verdict is not None:
        return VERDICTS[line.verdict] + (f": {plain(line.verdict_why)}" if line.verdict_why else "")
    if line.state is JobState.SUCCEEDED:
        return ""
    if line.state.is_final:
        return plain(why(line.reason, line.message))
    return plain(line.waits_for)


def _drawings(picture: PullPicture) -> list[dict[str, str]]:
    """The first charts that there are, each with a caption that names its lines."""
    drawn: list[dict[str, str]] = []
    for line in picture.lines:
        if line.headline and len(drawn) < picture.charts:
            chart = metric_chart(line.headline, line.points, line.base_points)
            if chart:
                against = f", grey line: the base ({plain(line.base, 100)})" if has_base_line(chart) else ""
                metric = f"{_title(line)}, {plain(line.headline, 60)} over steps."
                drawn.append({"caption": f"{metric} Blue line: {plain(line.name, 100)}{against}.", "chart": chart})
    return drawn


def _report(line: RunLine, most: int) -> dict[str, object]:
    """A workflow's own report; without text where there is no room for any. It has been made harmless already."""
    kept = cut(line.report, most)
    return {
        "workflow": tagged(line.workflow, 100) + (f" ({tagged(line.note, 80)})" if line.note else ""),
        "page": f"[{plain(line.name, 100)}]({line.url})",
        "text": closed(kept).strip("\n"),
        "is_cut": kept is not line.report,
    }


def _earlier(older: Sequence[RunLine]) -> str:
    """The table of the commits before; empty where there were none."""
    if not older:
        return ""
    header = HEADER.replace("| Workflow", "| Commit | Workflow", 1).replace("|---", "|---|---", 1)
    return "\n".join([header, *(f"| {code(line.sha[:7])} {_row(line)}" for line in older)])
