"""Reads the workflow files at a commit anew where they had problems: what they name elsewhere may have been mended.

What happened there is handled again: pull requests as the forge has them now, pushes and merge groups as they were
told. Runs have natural keys, so nothing is made twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from sqlmodel import Session

from dstack.errors import Conflict, ForgeRefused, Malformed
from dstack.server.forge_events import MergeGroup, Push, read_event
from dstack.server.gateways.forge_facts import PullFacts
from dstack.server.models import Delivery, Repo
from dstack.server.services.file_found import FOUND_PULL
from dstack.server.services.replay_delivery import replay_delivery
from dstack.server.store.deliveries import failed_pushes
from dstack.server.store.pulls import pulls_at
from dstack.server.store.reports import tell_checks_again
from dstack.server.transitions.deliveries import receive_delivery
from dstack.server.wiring import Wiring, place_of


def ask_pulls(wiring: Wiring, repo: Repo, sha: str) -> list[PullFacts]:
    """Open pull requests whose head it is, as they are now. Raises ForgeBusy and ForgeDown."""
    numbers = [pull.number for pull in wiring.db.read(lambda s: pulls_at(s, repo.id or 0, sha))]
    found = []
    for number in numbers:
        try:
            found.append(wiring.forge.pull(place_of(repo), number))
        except ForgeRefused:
            continue  # it is gone
    return [facts for facts in found if facts.is_open and facts.head_sha == sha]


def read_again(
    session: Session, wiring: Wiring, delivery: Delivery, repo: Repo, sha: str, pulls: Sequence[PullFacts]
) -> str:
    """What is done, in words. Raises Conflict where nothing of it is left."""
    repo_id, now = repo.id or 0, wiring.clock.now()
    pushed = [old.id or 0 for old in failed_pushes(session, repo_id) if _has_pushed(old, sha)]
    if not pushed and not pulls:
        raise Conflict(f"nothing is left of what happened at {sha[:7]}", "Push again.")
    for facts in pulls:
        # No action: which one it was does not matter to whoever asks for it again.
        body = {"action": "", "pull": asdict(facts)}
        guid = f"again:{delivery.id}:{facts.number}"
        receive_delivery(session, FOUND_PULL, guid, body, repo_id=repo_id, sender=delivery.sender, now=now)
    tell_checks_again(session, repo_id, sha, now)
    for old in pushed:
        replay_delivery(session, old, by=delivery.sender, clock=wiring.clock)
    return f"the workflow files at {sha[:7]} are read again"


def _has_pushed(old: Delivery, sha: str) -> bool:
    """Whether it told of this commit as a branch's new head, or a merge queue's."""
    if old.kind == "push":
        return any(update.get("new") == sha for update in old.body.get("updates", ()))
    if sha.encode() not in (old.payload or b""):
        return False
    try:
        event = read_event(old.event.partition(".")[0], old.payload or b"")
    except Malformed:
        return False
    return (isinstance(event, Push) and event.after == sha) or (isinstance(event, MergeGroup) and event.head_sha == sha)
