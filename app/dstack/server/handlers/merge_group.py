"""A merge queue asks whether its trial merge is good: the workflows of pull requests run on it."""

from __future__ import annotations

from sqlmodel import Session

from dstack.errors import ConfigProblems
from dstack.language import Event
from dstack.server.decide.not_needed import after_merge_group
from dstack.server.decide.plan import GroupPlan, Occasion
from dstack.server.forge_events import MergeGroup
from dstack.server.handlers.registry import handles_event
from dstack.server.handlers.start_runs import Outcome, plan_event, write_groups
from dstack.server.models import Delivery, Repo, Run
from dstack.server.models.delivery import DeliveryState
from dstack.server.services.build_wheel import wheel_requirement
from dstack.server.services.drop_merge_group import drop_merge_group, merge_group_key
from dstack.server.services.mirror_commit import mirror_commit
from dstack.server.services.note_not_needed import forget_not_needed, note_not_needed, note_problem
from dstack.server.services.settle_delivery import settle_delivery
from dstack.server.wiring import Wiring
from dstack.wire.states import Trigger


@handles_event(MergeGroup)
def handle_merge_group(wiring: Wiring, delivery: Delivery, repo: Repo, group: MergeGroup) -> None:
    """Every status that somebody may require is answered there. Raises ForgeBusy and ForgeDown."""
    if group.origin.action == "destroyed":
        _drop(wiring, delivery, repo, group)
        return
    mirror_commit(wiring, repo, group.base_sha, branch=group.base_branch)
    mirror_commit(wiring, repo, group.head_sha, branch=group.head_branch)
    outcome, problem = Outcome(None), ""

    def plans() -> list[GroupPlan]:
        nonlocal outcome, problem
        try:
            outcome = _plan(wiring, delivery, repo, group)
        except ConfigProblems as error:
            outcome, problem = Outcome(None), error.message
        return [outcome.group] if outcome.group is not None else []

    def settle(session: Session, runs: list[Run]) -> None:
        now, repo_id = wiring.clock.now(), repo.id or 0
        if problem:
            note_problem(session, repo_id, group.head_sha, problem, now, Trigger.PUSH)
        if outcome.project is not None:
            not_needed = after_merge_group(outcome.project, outcome.chosen)
            note_not_needed(session, repo_id, group.head_sha, not_needed, now)
        forget_not_needed(session, runs)
        state = DeliveryState.FAILED if problem else DeliveryState.PROCESSED if runs else DeliveryState.IGNORED
        reason = problem or outcome.why or ("" if runs else "this merge group has been run before")
        settle_delivery(session, delivery.id or 0, state, reason, now, repo_id=repo_id)

    write_groups(wiring, plans, settle)


def _drop(wiring: Wiring, delivery: Delivery, repo: Repo, group: MergeGroup) -> None:
    """One that was merged goes on: its commit is that of the base branch now."""

    def unit(session: Session) -> None:
        now = wiring.clock.now()
        count = drop_merge_group(session, repo.id or 0, group.head_sha, now) if group.reason != "merged" else 0
        state = DeliveryState.PROCESSED if count else DeliveryState.IGNORED
        stopped = f"{count or 'no'} {'run was' if count == 1 else 'runs were'} stopped"
        why = f"the merge group was {group.reason or 'dropped'}; {stopped}"
        settle_delivery(session, delivery.id or 0, state, why, now, repo_id=repo.id)

    wiring.db.write(unit)


def _plan(wiring: Wiring, delivery: Delivery, repo: Repo, group: MergeGroup) -> Outcome:
    """As a pull request would be judged, at a commit that the forge itself made: a message that says to skip, taken
    over from a pull request, counts for nothing here."""
    repo_id = str(repo.id)
    default_branch = wiring.git.default_branch(repo_id)
    occasion = Occasion(
        repo=repo.full_name,
        sha=group.head_sha,
        branch=group.head_branch,
        default_branch=default_branch,
        trigger=Trigger.PUSH,
        key=merge_group_key(repo.id or 0, group.head_sha),
        wheel=wheel_requirement(wiring.settings.public_url),
        base_branch=group.base_branch,
    )
    event = Event(
        trigger=Trigger.PULL_REQUEST,
        branch=group.base_branch,
        default_branch=default_branch,
        changed=wiring.git.changed_paths(repo_id, group.base_sha, group.head_sha),
    )
    return plan_event(wiring, repo, delivery, occasion, event)
