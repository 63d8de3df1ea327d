"""Mounts the artifacts a job depends on into its checkout, and the caches its workflow names into its home."""

from __future__ import annotations

from dstack.errors import DstackError
from dstack.wire.states import Reason
from dstack_runner.attempt import Attempt
from dstack_runner.outcome import StepFailed
from dstack_runner.server import worth_retrying


def run(attempt: Attempt) -> None:
    for item in attempt.order.inputs:
        attempt.control.check()
        try:
            attempt.content.mount(item, attempt.places.checkout, attempt.user)
        except DstackError as error:
            what = f"{item.path} ({item.source})" if item.source else item.path
            hint = f"; {error.hint}" if error.hint else ""
            raise StepFailed(
                f"input {what}: {error.message}{hint}", reason=Reason.INPUTS, machine_fault=worth_retrying(error)
            ) from error
    _lend_caches(attempt)


def _lend_caches(attempt: Attempt) -> None:
    order, caches = attempt.order, attempt.kit.caches
    for path in order.job.cache:
        if not caches.lend(order.attempt, order.repo, order.trusted, path, attempt.places.home, attempt.own):
            attempt.log.say(f"cache {path} is in use by another job: this one starts with an empty one")
    if order.job.cache:
        attempt.own(attempt.places.home)
