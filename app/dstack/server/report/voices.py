"""What counts of a run when it is asked which of several speaks."""

from __future__ import annotations

from dstack.server.decide.speaking import Voice
from dstack.server.models import Run
from dstack.wire.states import Reason


def voice_of(run: Run) -> Voice:
    """Of those that are not clean none goes before another of its kind: their variables differ."""
    is_of_pull = run.is_clean and run.pull_request is not None
    aim = (run.pull_request or 0, run.base_branch) if is_of_pull else None
    return Voice(run.id or 0, run.trusted, run.reason is Reason.SUPERSEDED_BY, aim)
