"""Starts what an event asks for that belongs to no branch: a moved tag, a schedule, a posted event. The workflows at
the head of the default branch decide."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from sqlmodel import Session

from dstack.errors import DstackError
from dstack.language import Event
from dstack.server.decide.plan import GroupPlan, Occasion
from dstack.server.handlers.start_runs import plan_event, write_groups
from dstack.server.models import Delivery, Run
from dstack.server.models.delivery import DeliveryState
from dstack.server.services.build_wheel import wheel_requirement
from dstack.server.services.settle_delivery import settle_delivery
from dstack.server.store.repos import repo_by_id
from dstack.server.wiring import Wiring


def start_on_default_branch(
    wiring: Wiring,
    delivery: Delivery,
    event: Event,
    *,
    variables: Mapping[str, str] | None = None,
    schedule_time: str = "",
    scheduled_at: float | None = None,
    fresh: bool = False,
) -> None:
    """`event` lacks only the branch. The delivery's guid is the natural key: replayed, it makes nothing twice."""
    repo = wiring.db.read(lambda session: repo_by_id(session, delivery.repo_id or 0))
    branch = wiring.git.default_branch(str(repo.id))
    sha = wiring.git.heads(str(repo.id)).get(f"refs/heads/{branch}")
    why: list[str] = []
    failed: list[str] = []

    def plans() -> list[GroupPlan]:
        why.clear()
        failed.clear()
        if sha is None:
            why.append(f"the default branch {branch} does not exist")
            return []
        occasion = Occasion(
            repo.full_name,
            sha,
            branch,
            branch,
            event.trigger,
            key=delivery.guid,
            wheel=wheel_requirement(wiring.settings.public_url),
            schedule_time=schedule_time,
            scheduled_at=scheduled_at,
            fresh=fresh,
        )
        happened = replace(event, branch=branch, default_branch=branch)
        try:
            outcome = plan_event(wiring, repo, delivery, occasion, happened, variables)
        except DstackError as error:
            failed.append(error.message)
            return []
        why.append(outcome.why)
        return [outcome.group] if outcome.group is not None else []

    def settle(session: Session, runs: list[Run]) -> None:
        state = DeliveryState.FAILED if failed else DeliveryState.PROCESSED if runs else DeliveryState.IGNORED
        settle_delivery(session, delivery.id or 0, state, "\n".join(failed + why), wiring.clock.now())

    write_groups(wiring, plans, settle)
