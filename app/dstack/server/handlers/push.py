"""A push to our Git remote."""

from __future__ import annotations

from sqlmodel import Session

from dstack.errors import DstackError
from dstack.language import Event
from dstack.server.decide.plan import GroupPlan, Occasion
from dstack.server.handlers.registry import handles
from dstack.server.handlers.start_runs import plan_event, write_groups
from dstack.server.models import Delivery, Repo, Run
from dstack.server.models.delivery import DeliveryState
from dstack.server.services.build_wheel import wheel_requirement
from dstack.server.services.settle_delivery import settle_delivery
from dstack.server.store.heads import note_head
from dstack.server.store.repos import repo_by_id
from dstack.server.wiring import Wiring
from dstack.wire.states import Trigger

_BRANCH, _TAG = "refs/heads/", "refs/tags/"


def is_gone(sha: str) -> bool:
    """Git writes zeros for a ref that does not exist."""
    return set(sha) == {"0"}


@handles("push")
def handle_push(wiring: Wiring, delivery: Delivery) -> None:
    """Each branch or tag that moved starts what its new commit says; one with problems does not hold up the others."""
    repo = wiring.db.read(lambda session: repo_by_id(session, delivery.repo_id or 0))
    updates = [u for u in delivery.body["updates"] if u["ref"].startswith((_BRANCH, _TAG))]
    reasons: list[str] = []
    failed: list[str] = []

    def plans() -> list[GroupPlan]:
        reasons.clear()
        failed.clear()
        found = [_plan_update(wiring, repo, delivery, update, reasons, failed) for update in updates]
        return [plan for plan in found if plan is not None]

    def settle(session: Session, runs: list[Run]) -> None:
        for update in updates:
            note_head(session, repo.id or 0, update["ref"], None if is_gone(update["new"]) else update["new"])
        state = DeliveryState.FAILED if failed else DeliveryState.PROCESSED if runs else DeliveryState.IGNORED
        reason = "\n".join(failed + reasons) or ("" if runs else "this commit has been run before")
        settle_delivery(session, delivery.id or 0, state, reason, wiring.clock.now())

    write_groups(wiring, plans, settle)


def _plan_update(
    wiring: Wiring, repo: Repo, delivery: Delivery, update: dict[str, str], reasons: list[str], failed: list[str]
) -> GroupPlan | None:
    ref, old, new = update["ref"], update["old"], update["new"]
    if is_gone(new):
        reasons.append(f"{ref} was deleted")
        return None
    branch, tag = ref.removeprefix(_BRANCH) if ref.startswith(_BRANCH) else "", ""
    if ref.startswith(_TAG):
        tag = ref.removeprefix(_TAG)
    default_branch = wiring.git.default_branch(str(repo.id))
    occasion = Occasion(
        repo=repo.full_name,
        sha=new,
        branch=branch,
        default_branch=default_branch,
        trigger=Trigger.PUSH,
        wheel=wheel_requirement(wiring.settings.public_url),
        key=f"push:{repo.id}:{ref}:{new}",
    )
    try:
        event = Event(
            trigger=Trigger.PUSH,
            branch=branch,
            tag=tag,
            default_branch=default_branch,
            changed=wiring.git.changed_paths(str(repo.id), old, new),
            message=wiring.git.commit_info(str(repo.id), new).message,
        )
        outcome = plan_event(wiring, repo, delivery, occasion, event)
    except DstackError as error:
        failed.append(error.message)
        return None
    if outcome.group is None:
        reasons.append(outcome.why)
    return outcome.group
