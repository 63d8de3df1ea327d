"""Files what was found at the forge as if an event had told it: the same road, and the same natural keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from sqlmodel import Session

from dstack.server.gateways.forge_facts import ForgeComment, PullFacts
from dstack.server.models import Repo
from dstack.server.transitions.deliveries import receive_found

FOUND_PULL = "found-pull"
FOUND_COMMENT = "found-comment"


def file_found_pulls(session: Session, repo: Repo, news: Sequence[tuple[str, PullFacts]], now: float) -> None:
    for action, pull in news:
        body = {"action": action, "pull": asdict(pull)}
        key = f"{FOUND_PULL}:{repo.id}:{pull.number}:{action}:{pull.head_sha}:{pull.base_branch}:{pull.updated_at:.0f}"
        receive_found(session, FOUND_PULL, key, body, repo_id=repo.id, sender=pull.author, now=now)


def file_found_comments(session: Session, repo: Repo, comments: Sequence[ForgeComment], now: float) -> None:
    for comment in comments:
        key = f"{FOUND_COMMENT}:{repo.id}:{comment.id}"
        receive_found(session, FOUND_COMMENT, key, asdict(comment), repo_id=repo.id, sender=comment.author, now=now)
