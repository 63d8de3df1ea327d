"""A tag was moved: workflows that wait for it start, from the default branch."""

from __future__ import annotations

from sqlmodel import Session

from dstack.errors import DstackError
from dstack.language import Event
from dstack.server.decide.plan import GroupPlan, Occasion
from dstack.server.handlers.registry import handles
from dstack.server.handlers.start_runs import plan_event, write_groups
from dstack.server.models import Delivery, Run
from dstack.server.models.delivery import DeliveryState
from dstack.server.services.build_wheel import wheel_requirement
from dstack.server.services.settle_delivery import settle_delivery
from dstack.server.store.repos import repo_by_id
from dstack.server.wiring import Wiring
from dstack.wire.states import Trigger


@handles("tag-moved")
def handle_tag_moved(wiring: Wiring, delivery: Delivery) -> None:
    """The workflows on the default branch decide, as for a schedule: a tag belongs to no branch."""
    repo = wiring.db.read(lambda session: repo_by_id(session, delivery.repo_id or 0))
    branch = wiring.git.default_branch(str(repo.id))
    sha = wiring.git.heads(str(repo.id)).get(f"refs/heads/{branch}")
    why: list[str] = []

    def plans() -> list[GroupPlan]:
        why.clear()
        if sha is None:
            why.append(f"the default branch {branch} does not exist")
            return []
        occasion = Occasion(
            repo.full_name,
            sha,
            branch,
            branch,
            Trigger.TAG_MOVED,
            key=delivery.guid,
            wheel=wheel_requirement(wiring.settings.public_url),
        )
        event = Event(trigger=Trigger.TAG_MOVED, branch=branch, default_branch=branch, tag_moved=delivery.body["tag"])
        try:
            outcome = plan_event(wiring, repo, delivery, occasion, event)
        except DstackError as error:
            why.append(error.message)
            return []
        why.append(outcome.why)
        return [outcome.group] if outcome.group is not None else []

    def settle(session: Session, runs: list[Run]) -> None:
        state = DeliveryState.PROCESSED if runs else DeliveryState.IGNORED
        settle_delivery(session, delivery.id or 0, state, "\n".join(why), wiring.clock.now())

    write_groups(wiring, plans, settle)
