"""Writes the one issue of a workflow that fails where no pull request would say so."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

from dstack.server.gateways.forge_writes import IssueWrite
from dstack.server.models import Run
from dstack.server.report.budget import cut_start
from dstack.server.report.ends import is_failure
from dstack.server.report.markdown import code, fenced, plain
from dstack.server.report.status_words import run_duration
from dstack.server.report.templates import fill
from dstack.server.report.words import VERDICTS, why
from dstack.wire.states import JobState, Verdict

LOG_BYTES = 8_000


def marker(workflow: str) -> str:
    """By which the issue is found again."""
    return f"<!-- dstack:issue:{workflow} -->"


def issue_of(workflow: str, branch: str, ends: Sequence[Run], url: str, log: str) -> IssueWrite:
    """`ends` are the workflow's runs on the branch that succeeded or failed, newest first, at least one; `log` is the
    end of the newest one's log. Closed when the newest one is no failure."""
    newest = ends[0]
    is_open = is_failure(newest)
    failures = list(takewhile(is_failure, ends))
    body = fill(
        "issue.md",
        marker=marker(workflow),
        is_open=is_open,
        workflow=plain(workflow),
        branch=code(branch),
        newest=_link(newest, url),
        first=_link(failures[-1], url) if failures else "",
        count=len(failures),
        good=_first([run for run in ends if not is_failure(run)], url),
        failed=_first([run for run in ends if is_failure(run)], url),
        took=run_duration(newest),
        subject=plain(newest.subject),
        reason=_reason(newest),
        log=fenced(cut_start(log, LOG_BYTES)) if log.strip() else "",
    )
    return IssueWrite(f"dstack: {workflow} fails on {branch}", body, is_open)


def _first(runs: Sequence[Run], url: str) -> str:
    return _link(runs[0], url) if runs else ""


def _link(run: Run, url: str) -> str:
    return f"[{plain(run.name)}]({url}/runs/{run.name}) at {code(run.sha[:7])}"


def _reason(run: Run) -> str:
    if run.state is JobState.SUCCEEDED:
        return f"{VERDICTS[Verdict.FAILED].capitalize()}: {plain(run.verdict_why)}"
    return f"Reason: {plain(why(run.reason, run.message))}" if run.reason or run.message else "It failed."
