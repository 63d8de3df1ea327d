"""Whether a pull request is still what it was when somebody commented on it; pure. In doubt it is not."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Heard:
    """A pull request as it was heard of before a comment on it was handled. Times are the forge's, in whole seconds:
    `head_at` of the push, `base_at` of its being aimed at another branch (0: it never was). `head_moved`: it had
    another head before."""

    head_sha: str
    head_at: float
    base_branch: str
    head_moved: bool = False
    base_at: float = 0


def is_head_as_said(heard: Heard, head_sha: str, said_at: float) -> bool:
    """Whether a comment of `said_at` was made at `head_sha`, the head of its pull request now. In doubt it was not:
    what somebody looked at is what runs, not what was pushed since, be it within the same second. One that is opened
    with a command in its first second had no other head to look at."""
    if heard.head_sha != head_sha:
        return False
    return heard.head_at < said_at or (heard.head_at == said_at and not heard.head_moved)


def is_base_as_said(heard: Heard, base_branch: str, said_at: float) -> bool:
    """The same of the branch that it goes to."""
    return heard.base_branch == base_branch and (not heard.base_at or heard.base_at < said_at)
