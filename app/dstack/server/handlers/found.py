"""What was found at the forge rather than told: handled as the event that did not come."""

from __future__ import annotations

from dstack.errors import ForgeRefused
from dstack.server.forge_events import IssueComment, Origin, PullRequestEvent
from dstack.server.gateways.forge_facts import ForgeComment, PullFacts
from dstack.server.handlers.comment import handle_comment
from dstack.server.handlers.pull_request import handle_pull_request
from dstack.server.handlers.registry import handles
from dstack.server.models import Delivery, Repo
from dstack.server.services.file_found import FOUND_COMMENT, FOUND_PULL
from dstack.server.store.repos import repo_by_id
from dstack.server.wiring import Wiring, place_of


@handles(FOUND_PULL)
def handle_found_pull(wiring: Wiring, delivery: Delivery) -> None:
    repo, facts = _repo(wiring, delivery), PullFacts(**delivery.body["pull"])
    origin = Origin("pull_request", delivery.body["action"], facts.author)
    handle_pull_request(wiring, delivery, repo, PullRequestEvent(origin, facts))


@handles(FOUND_COMMENT)
def handle_found_comment(wiring: Wiring, delivery: Delivery) -> None:
    """The list of comments does not say on what they stand: the pull request is asked for."""
    repo, comment = _repo(wiring, delivery), ForgeComment(**delivery.body)
    try:
        known: PullFacts | None = wiring.forge.pull(place_of(repo), comment.number)
    except ForgeRefused:
        known = None
    event = IssueComment(
        origin=Origin("issue_comment", "created", comment.author, comment.is_bot),
        number=comment.number,
        is_pull=known is not None,
        is_open=known is not None and known.is_open,
        comment_id=comment.id,
        author=comment.author,
        author_is_bot=comment.is_bot,
        body=comment.body,
        created_at=comment.created_at,
    )
    handle_comment(wiring, delivery, repo, event)


def _repo(wiring: Wiring, delivery: Delivery) -> Repo:
    return wiring.db.read(lambda s: repo_by_id(s, delivery.repo_id or 0))
