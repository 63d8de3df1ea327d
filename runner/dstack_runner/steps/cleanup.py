"""Gives back what the attempt held and moves its folder out of the way; runs always, last, and may run twice."""

from __future__ import annotations

from dstack_runner.attempt import Attempt


def run(attempt: Attempt) -> None:
    kit, name = attempt.kit, attempt.order.attempt
    if attempt.env is not None:
        kit.environments.release(attempt.env.base)
        attempt.env = None
    kit.caches.give_back(name)
    kit.workspaces.discard(name)
