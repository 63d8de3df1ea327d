"""How often the forge is asked what happened, and which of its answers are news; the asking is left to the timer."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from dstack.server.gateways.forge_facts import ForgeComment, PullFacts, SentDelivery

POLL_S = 15.0
RECONCILE_S = 180.0
SYNC_S = 1800.0  # between two looks at which repositories there are
KEPT_S = 3 * 86_400.0  # GitHub keeps its delivery log so long
OVERLAP_S = 120.0  # looked at twice, since GitHub's lists may lag behind
_MERGE_QUEUE = "refs/heads/gh-readonly-queue/"
_CALLS_A_REPO = 2  # comments and pull requests
_CALLS_AN_HOUR = 2500  # of an installation's 5000; the rest is for writing, and for people's commands


def look_every(mode: str, repos: int) -> float:
    """Seconds between two looks at all repositories: within the budget of calls, however many there are."""
    return max(POLL_S if mode == "poll" else RECONCILE_S, repos * _CALLS_A_REPO * 3600 / _CALLS_AN_HOUR)


def is_of_merge_queue(ref: str) -> bool:
    """A branch of a merge queue, with a trial merge: the merge group speaks for its commit, and nobody pushed it."""
    return ref.startswith(_MERGE_QUEUE)


def read_log_from(begun: float, read: float, now: float) -> float:
    """From when on the log is looked at: where it was read to, some of it twice, and never what is of before we began:
    that is old, and starts nothing. The log's own times are of whole seconds."""
    return max(float(int(begun)), read - OVERLAP_S, now - KEPT_S)


def not_arrived(log: Iterable[SentDelivery], known: Collection[str], *, before: float) -> list[SentDelivery]:
    """One entry for each event that reached us in none of its attempts, oldest first, however many they are: the next
    look does not come back to them. Those younger than `before` may still be on their way."""
    entries = list(log)
    arrived = {sent.guid for sent in entries if sent.arrived} | set(known)
    lost = {sent.guid: sent for sent in entries if sent.guid not in arrived and sent.delivered_at <= before}
    return sorted(lost.values(), key=lambda sent: (sent.delivered_at, sent.id))  # times are of whole seconds


@dataclass(frozen=True, slots=True)
class KnownPull:
    """A pull request as it stood when it was last handled."""

    head_sha: str
    base_branch: str
    is_open: bool
    is_draft: bool


def pull_news(found: Iterable[PullFacts], known: Mapping[int, KnownPull]) -> list[tuple[str, PullFacts]]:
    """What an event would have told: (action, pull request) for each open one that differs from what is known. One that
    was heard of and not handled is news: its handling broke."""
    news = []
    for pull in found:
        before = known.get(pull.number)
        if before is None:
            news.append(("opened", pull))
        elif not before.is_open:
            news.append(("reopened", pull))
        elif before.head_sha != pull.head_sha:
            news.append(("synchronize", pull))
        elif before.base_branch != pull.base_branch:
            news.append(("edited", pull))
        elif before.is_draft != pull.is_draft:
            news.append(("converted_to_draft" if pull.is_draft else "ready_for_review", pull))
    return news


def closed_pulls(found: Iterable[PullFacts], open_before: Iterable[int]) -> list[int]:
    """Numbers of those that were open and are no more."""
    return sorted(set(open_before) - {pull.number for pull in found})


def comments_to_read(found: Iterable[ForgeComment]) -> list[ForgeComment]:
    """Those that may hold commands: of people, as they wrote them."""
    return [comment for comment in found if not comment.is_bot and not comment.is_edited and "/" in comment.body]
