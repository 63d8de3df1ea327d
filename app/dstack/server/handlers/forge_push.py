"""A push to a repository of the forge: its commit is fetched, then it goes the way of a push to our own remote."""

from __future__ import annotations

from functools import partial

from dstack.git.names import is_zero
from dstack.server.decide.watching import is_of_merge_queue
from dstack.server.forge_events import Push
from dstack.server.handlers.github import settle
from dstack.server.handlers.push import BRANCH, TAG, Update, start_pushed
from dstack.server.handlers.registry import handles_event
from dstack.server.models import Delivery, Repo
from dstack.server.models.delivery import DeliveryState
from dstack.server.services.mirror_commit import mirror_commit
from dstack.server.store.heads import heads_of_repo
from dstack.server.wiring import Wiring


@handles_event(Push)
def handle_forge_push(wiring: Wiring, delivery: Delivery, repo: Repo, event: Push) -> None:
    """Raises ForgeBusy and ForgeDown, so that the delivery waits for the forge."""
    branch = event.ref.removeprefix(BRANCH) if event.ref.startswith(BRANCH) else ""
    if not event.ref.startswith((BRANCH, TAG)):
        settle(wiring, delivery, DeliveryState.IGNORED, "neither a branch nor a tag was pushed", repo)
    elif is_of_merge_queue(event.ref):
        settle(wiring, delivery, DeliveryState.IGNORED, "the merge group says it too", repo)
    else:
        if not is_zero(event.after):
            mirror_commit(wiring, repo, event.commit, branch=branch)
        start_pushed(wiring, repo, delivery, [Update(event.ref, _since(wiring, repo, event), event.commit)])


def _since(wiring: Wiring, repo: Repo, event: Push) -> str:
    """What to tell from what has changed: where the head pushed to and the one last handled here part. News of a push
    between them were lost, and what it changed was looked at by nobody."""
    handled = wiring.db.read(partial(heads_of_repo, repo_id=repo.id or 0)).get(event.ref, event.before)
    if handled == event.before or is_zero(event.before):
        return event.before
    return wiring.git.merge_base(str(repo.id), handled, event.before) or event.before
