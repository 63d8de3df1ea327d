"""Puts the commit's files into the attempt's folder."""

from __future__ import annotations

import re
import time

from dstack.errors import GitFailed
from dstack.wire.states import Reason
from dstack_runner.attempt import Attempt
from dstack_runner.outcome import StepFailed
from dstack_runner.server import delays

PATIENCE_S = 15 * 60.0  # a server that restarts or updates costs a job nothing
_FINAL = re.compile(
    r"not our ref|unadvertised object|sent no commit|Authentication failed|HTTP code 40[134]|error: 40[134]|not found"
    r"|could not read Username",
    re.I,
)
_DISK_FULL = re.compile(r"No space left on device|Disk quota exceeded", re.I)


def run(attempt: Attempt) -> None:
    order, workspaces = attempt.order, attempt.kit.workspaces
    attempt.mirror = workspaces.mirror(order.repo, order.trusted)
    try:
        _fetch(attempt)
        attempt.places.checkout.mkdir()
        workspaces.fill(attempt.places.checkout, attempt.mirror, order.sha)
    except GitFailed as error:
        if _DISK_FULL.search(error.message):
            raise StepFailed(
                "checkout: the runner's disk is full", reason=Reason.DISK_FULL, machine_fault=True
            ) from error
        is_final = bool(_FINAL.search(error.message))
        raise StepFailed(f"checkout: {error.message}", reason=Reason.CHECKOUT, machine_fault=not is_final) from error
    attempt.own(attempt.places.checkout)


def _fetch(attempt: Attempt) -> None:
    """Fetch what is missing; tries again while it is the network or the server that fails."""
    order = attempt.order
    assert attempt.mirror is not None
    url = attempt.kit.server_url.rstrip("/") + order.clone_path
    deadline = time.monotonic() + PATIENCE_S
    for delay in delays():
        attempt.control.check()
        try:
            attempt.kit.workspaces.fetch(
                attempt.mirror, url, order.clone_token, order.sha, order.branch, attempt.control.check
            )
            return
        except GitFailed as error:
            if _FINAL.search(error.message) or _DISK_FULL.search(error.message) or time.monotonic() > deadline:
                raise
            attempt.log.say(f"the commit could not be fetched, trying again: {error.message.splitlines()[-1]}")
        attempt.control.wait(delay)
