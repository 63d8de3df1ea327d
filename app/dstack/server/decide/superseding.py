"""Which runs gave way to another head or base of their own line of work, and so come back with it. Pure.

A line is a pull request, or a branch. What gave way inside a concurrency group to work of another line stays stopped:
that one is still there when the head comes back.
"""

from __future__ import annotations

from dataclasses import dataclass

CLOSED = "pull request closed"


def the_head(sha: str) -> str:
    """What a run gave way to where its workflow has no run at the head."""
    return f"the head {sha[:7]}"


def the_base(branch: str) -> str:
    """What a run of the present head gave way to where its workflow has no run for the present base."""
    return f"the base {branch}"


@dataclass(frozen=True, slots=True)
class Stand:
    """Where a run stands; `pull_request` None and `base_branch` empty for a push."""

    sha: str
    branch: str
    pull_request: int | None = None
    base_branch: str = ""


def gave_way_to_another_head(mine: Stand, cause: Stand) -> bool:
    """Whether a run at `mine` that was superseded by one at `cause` is wanted again once its head and base are the
    present ones."""
    of_one_pull = mine.pull_request is not None and mine.pull_request == cause.pull_request
    if not of_one_pull and (not mine.branch or mine.branch != cause.branch):
        return False
    return mine.sha != cause.sha or (of_one_pull and mine.base_branch != cause.base_branch)


def is_late(pushed: str, present: str | None) -> bool:
    """Whether the news of a push of commit `pushed` came after the branch had gone on to `present`; None: it is gone,
    and with it what could take the place of this."""
    return present is not None and present != pushed
