"""Decides, pure, how an attempt ended: from what failed, who stopped it, and what the job's own processes answered."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from dstack.errors import DstackError
from dstack.wire.runner import Stop
from dstack.wire.states import AttemptState, Reason
from dstack_runner.executors.base import StartFailed


class StepFailed(DstackError):
    """A step could not do its work: `reason` is what the server hears. `machine_fault`: not the code's fault."""

    code: ClassVar[str] = "step_failed"

    def __init__(
        self, message: str, hint: str = "", *, reason: Reason, job_exit: int | None = None, machine_fault: bool = False
    ) -> None:
        super().__init__(message, hint)
        self.reason = reason
        self.job_exit = job_exit
        self.machine_fault = machine_fault


@dataclass(frozen=True, slots=True)
class Outcome:
    state: AttemptState
    reason: Reason | None = None
    message: str = ""
    exit_code: int | None = None
    machine_fault: bool = False


# What a step's unexpected trouble is called when the step itself does not say.
REASON_OF_STEP: Mapping[str, Reason] = {
    "checkout": Reason.CHECKOUT,
    "inputs": Reason.INPUTS,
    "environment": Reason.ENVIRONMENT,
    "commands": Reason.EXIT_CODE,
    "outputs": Reason.ARTIFACTS,
    "cleanup": Reason.RUNNER_LOST,
}


def failure_of(step: str, error: BaseException) -> StepFailed:
    """Any trouble in a step as a failure the server understands."""
    if isinstance(error, StepFailed):
        return error
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StepFailed(f"{step}: the runner's disk is full", reason=Reason.DISK_FULL, machine_fault=True)
    if isinstance(error, StartFailed):
        reason = REASON_OF_STEP[step] if step != "commands" else Reason.ENVIRONMENT  # nothing of the job ran
        return StepFailed(f"{step}: {error.message}", reason=reason, machine_fault=True)
    if isinstance(error, DstackError):
        text = f"{error.message}; {error.hint}" if error.hint else error.message
        return StepFailed(f"{step}: {text}", reason=REASON_OF_STEP[step])
    return StepFailed(f"{step}: {type(error).__name__}: {error}", reason=REASON_OF_STEP[step], machine_fault=True)


def not_begun(error: Exception) -> StepFailed:
    """The machine, or what lies between it and the server, kept an attempt from beginning: elsewhere it may begin."""
    found = failure_of("checkout", error)
    return StepFailed(found.message, found.hint, reason=found.reason, machine_fault=True)


def judge(failure: StepFailed | None, stop: Stop | None, exit_code: int | None) -> Outcome:
    """A stop that was asked for explains whatever failed after it; else the first failure does."""
    if stop is not None and stop.reason is Reason.PREEMPTED:
        return Outcome(AttemptState.PREEMPTED, stop.reason, "the machine was taken away", exit_code)
    if stop is not None:
        state = AttemptState.LOST if stop.lost else AttemptState.STOPPED
        return Outcome(state, stop.reason, "", exit_code)
    if failure is not None:
        code = failure.job_exit if failure.job_exit is not None else exit_code
        return Outcome(AttemptState.FAILED, failure.reason, failure.message, code, failure.machine_fault)
    return Outcome(AttemptState.SUCCEEDED, None, "", exit_code)
