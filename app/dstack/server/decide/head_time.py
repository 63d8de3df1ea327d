"""When the head of a pull request was pushed, as far as the forge tells; pure."""

from __future__ import annotations

from dstack.server.gateways.forge_facts import PullFacts


def head_since(facts: PullFacts, heard_until: float, told: PullFacts | None = None) -> float:
    """Not before the push of `head_sha`, by the forge's clock. Every comment makes a pull request younger, so the last
    push to the head's repository says more. `heard_until`: it had another head then, 0 where nobody knows: a push of
    before that is not the one that moved the head, and the forge is yet to tell of that. `told`: news of that very
    second, which `facts` were asked for to find out what came last in it."""
    if told is not None and told.head_sha == facts.head_sha and told.updated_at == heard_until:
        return told.updated_at
    is_of_head = heard_until < facts.pushed_at <= facts.updated_at
    return facts.pushed_at if is_of_head else facts.updated_at
