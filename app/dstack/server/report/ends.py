"""Decides what the end of a run means beside the end before it: a failure, a recovery, a success."""

from __future__ import annotations

from collections.abc import Collection

from dstack.server.models import Run
from dstack.wire.states import JobState, Verdict

FAILED, RECOVERED, SUCCEEDED = "failed", "recovered", "succeeded"


def is_failure(run: Run) -> bool:
    """It failed, or its gate did."""
    return run.state is JobState.FAILED or (run.state is JobState.SUCCEEDED and run.verdict is Verdict.FAILED)


def end_of(run: Run, before: Run | None) -> str:
    """failed, recovered or succeeded; empty for a run that goes on, was stopped or skipped. `before` is the newest run
    before it of the same workflow, branch and trigger that succeeded or failed."""
    if run.state not in (JobState.SUCCEEDED, JobState.FAILED):
        return ""
    if is_failure(run):
        return FAILED
    return RECOVERED if before is not None and is_failure(before) else SUCCEEDED


def is_wanted(end: str, wanted: Collection[str]) -> bool:
    """Whether somebody who asked for `wanted` ends is to be told; a recovery is a success, too."""
    return end in wanted or (end == RECOVERED and SUCCEEDED in wanted)
