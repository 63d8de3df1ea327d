"""What a run is compared with: where the line of its base begins, and which run of that line is the base. Git and the
store are asked by others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dstack.wire.states import FINAL_STATES, JobState, Trigger

HISTORY = 5  # so many runs of the base tell its mean and its noise
LINE = 500  # commits looked back


@dataclass(frozen=True, slots=True)
class Beginning:
    """Where the line of a base begins: with `is_before` at the first parent of the run's own commit; else at the commit
    at which its work parted from `branch`, or where none is named from the default branch."""

    branch: str = ""
    is_before: bool = False


def beginning_of(trigger: Trigger, base_branch: str) -> Beginning:
    """A pull request (also a comment on one) is compared with where it goes to, a push with what was there before, and
    what was started in any other way with the default branch."""
    return Beginning(base_branch, is_before=trigger is Trigger.PUSH and not base_branch)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A clean, trusted run of the same workflow. `result_id` is the run whose work it is: itself, or one it adopted."""

    id: int
    sha: str
    state: JobState
    result_id: int


@dataclass(frozen=True, slots=True)
class BaseChoice:
    """`base_id` None: there is none. `is_open`: it has not ended, so there is nothing to compare with yet. `history`
    are the succeeded runs of the line, the nearest first, each piece of work once."""

    base_id: int | None = None
    is_open: bool = False
    history: tuple[int, ...] = ()


def choose_base(line: Sequence[str], candidates: Sequence[Candidate], own_work: int | None = None) -> BaseChoice:
    """The nearest commit of the line with a run that succeeded or may still: of the runs there the newest that
    succeeded, else the newest that goes on. One that ended otherwise says nothing: the next older commit counts.

    Runs of `own_work` are passed over: a push that changes nothing is as good as the one before was against its own
    base, and cannot turn a failed gate green.
    """
    place = {sha: index for index, sha in enumerate(line)}
    others = (c for c in candidates if c.sha in place and c.result_id != own_work)
    known = sorted(others, key=lambda c: (place[c.sha], -c.id))
    succeeded = [c for c in known if c.state is JobState.SUCCEEDED]
    still_open = [c for c in known if c.state not in FINAL_STATES]
    works: dict[int, int] = {}
    for run in succeeded:
        works.setdefault(run.result_id, run.id)
    history = tuple(works.values())[:HISTORY]
    nearest = succeeded[0] if succeeded else None
    awaited = still_open[0] if still_open else None
    if awaited is not None and (nearest is None or place[awaited.sha] < place[nearest.sha]):
        return BaseChoice(awaited.id, True, history)
    return BaseChoice(nearest.id if nearest else None, False, history)
