"""Runs the job's commands one after the other and stops at the first that fails."""

from __future__ import annotations

import shutil
import signal
import time
from pathlib import Path

from dstack.errors import Invalid
from dstack.wire.job import Command
from dstack.wire.states import Reason
from dstack_runner.argv import job_argv
from dstack_runner.attempt import Attempt
from dstack_runner.control import Ended
from dstack_runner.inside import inside
from dstack_runner.jobenv import job_env
from dstack_runner.outcome import StepFailed

FULL_BYTES = 4 * 1024 * 1024  # a command that fails with less than this left on the disk failed for want of it


def run(attempt: Attempt) -> None:
    job, places = attempt.order.job, attempt.places
    cwd = _folder(attempt)
    venv = places.venv if attempt.env is not None else None
    env = job_env(
        attempt.base_env(), attempt.order, checkout=places.checkout, metrics=places.metrics, output=places.output,
        venv=venv,
    )  # fmt: skip
    deadline = None if job.timeout_s is None else time.monotonic() + job.timeout_s
    for command in job.commands:
        left = None if deadline is None else max(0.001, deadline - time.monotonic())
        _judge(attempt, command, attempt.launch(job_argv(command), env, cwd, limit_s=left))
    attempt.ran = True


def _folder(attempt: Attempt) -> Path:
    name = attempt.order.job.working_dir
    try:
        folder = inside(attempt.places.checkout, name)
    except Invalid as error:
        raise StepFailed(f"working_dir: {error.message}", error.hint, reason=Reason.CONFIG) from None
    if not folder.is_dir():
        raise StepFailed(f"working_dir: {name!r} is not a folder of the checkout", reason=Reason.CONFIG)
    return folder


def _judge(attempt: Attempt, command: Command, ended: Ended) -> None:
    exit = ended.exit
    attempt.exit_code = exit.shell_code
    if exit.leftovers and attempt.control.stop is None and not ended.timed_out:
        attempt.log.say(f"{exit.leftovers} processes that the command left running were ended")
    attempt.control.check()
    if ended.timed_out:
        limit = attempt.order.job.timeout_s
        raise StepFailed(f"ran longer than its timeout of {limit} s", reason=Reason.TIMEOUT, job_exit=exit.shell_code)
    if exit.is_success:
        return
    if exit.out_of_memory:
        raise StepFailed(_out_of_memory(attempt), reason=Reason.OUT_OF_MEMORY, job_exit=exit.shell_code)
    how = f"{_short(command)}: {_how(exit.code, exit.signal)}"
    if shutil.disk_usage(attempt.places.root).free < FULL_BYTES:
        text = f"{how}; the runner's disk is full"
        raise StepFailed(text, reason=Reason.DISK_FULL, job_exit=exit.shell_code, machine_fault=True)
    raise StepFailed(how, reason=Reason.EXIT_CODE, job_exit=exit.shell_code)


def _out_of_memory(attempt: Attempt) -> str:
    limit = attempt.order.job.resources.memory
    return f"ran out of memory (its limit is {limit} bytes)" if limit else "the machine ran out of memory"


def _how(code: int | None, number: int | None) -> str:
    if number is None:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(number).name}"
    except ValueError:
        return f"killed by signal {number}"


def _short(command: Command) -> str:
    text = command.shell if command.shell is not None else " ".join(command.argv)
    line = next((line.strip() for line in text.splitlines() if line.strip()), "command")
    more = len(text.strip().splitlines()) > 1
    return (line[:77] + "..." if len(line) > 80 else line) + (" ..." if more else "")
