"""Writes the one issue of a workflow that fails where no pull request would say so."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

from dstack.server.gateways.forge import IssueWrite
from dstack.server.models import Run
from dstack.server.report.budget import cut_start
from dstack.server.report.ends import is_failure
from dstack.server.report.markdown import code, fenced, plain
from dstack.server.report.words import VERDICTS, duration, why
from dstack.wire.states import JobState, Verdict

LOG_BYTES = 8_000


def marker(workflow: str) -> str:
    """By which the issue is found again."""
    return f"<!-- dstack:issue:{workflow} -->"


def issue_of(workflow: str, branch: str, ends: Sequence[Run], url: str, log: str) -> IssueWrite:
    """`ends` are the workflow's runs on the branch that succeeded or failed, newest first, at least one; `log` is the
    end of the newest one's log. Closed when the newest one is no failure."""
    newest = ends[0]
    title = f"dstack: {workflow} fails on {branch}"
    if not is_failure(newest):
        failed = next((run for run in ends if is_failure(run)), None)
        said = f"**{plain(workflow)}** works again on {code(branch)}: {_link(newest, url)} succeeded"
        said += f"; the last that failed was {_link(failed, url)}." if failed else "."
        return IssueWrite(title, f"{marker(workflow)}\n{said}\n", is_open=False)
    parts = [
        f"{marker(workflow)}\n**{plain(workflow)}** fails on {code(branch)}, {_since(ends, url)}.",
        f"Newest: {_link(newest, url)}{_time(newest)}, {plain(newest.subject)}\n\n{_reason(newest)}",
        f"The end of its log:\n\n{fenced(cut_start(log, LOG_BYTES))}" if log.strip() else "",
        "This issue is closed when the workflow succeeds again.",
    ]
    return IssueWrite(title, "\n\n".join(part for part in parts if part) + "\n")


def _since(ends: Sequence[Run], url: str) -> str:
    failures = list(takewhile(is_failure, ends))
    count = "1 run" if len(failures) == 1 else f"{len(failures)} runs"
    since = f"since {_link(failures[-1], url)} ({count})"
    good = next((run for run in ends if not is_failure(run)), None)
    return f"{since}; it last succeeded in {_link(good, url)}" if good else since


def _link(run: Run, url: str) -> str:
    return f"[{plain(run.name)}]({url}/runs/{run.name}) at {code(run.sha[:7])}"


def _time(run: Run) -> str:
    return f", after {duration(run.finished_at - run.started_at)}" if run.started_at and run.finished_at else ""


def _reason(run: Run) -> str:
    if run.state is JobState.SUCCEEDED:
        return f"{VERDICTS[Verdict.FAILED].capitalize()}: {plain(run.verdict_why)}"
    return f"Reason: {plain(why(run.reason, run.message))}" if run.reason or run.message else "It failed."
