"""Branches and tags that moved, on our own Git remote or on the forge: what their new commits start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlmodel import Session

from dstack.errors import ConfigProblems, DstackError, ForgeBusy, ForgeDown, GitFailed, Unavailable
from dstack.language import Event, Idle
from dstack.server.decide.not_needed import after_push
from dstack.server.decide.plan import GroupPlan, Occasion
from dstack.server.gateways.snapshots import commit_info
from dstack.server.handlers.present_heads import Standing, find_standing
from dstack.server.handlers.registry import handles
from dstack.server.handlers.speakers import find_speakers
from dstack.server.handlers.start_runs import plan_event, write_groups
from dstack.server.models import Delivery, Repo, Run
from dstack.server.models.delivery import DeliveryState
from dstack.server.services.build_wheel import wheel_requirement
from dstack.server.services.note_not_needed import forget_not_needed, note_not_needed, note_problem
from dstack.server.services.settle_delivery import MAX_TRIES, settle_delivery
from dstack.server.services.supersede_push import let_pushed_run_again, supersede_push
from dstack.server.store.heads import note_head
from dstack.server.store.repos import repo_by_id
from dstack.server.store.runs import push_key
from dstack.server.wiring import Wiring
from dstack.wire.states import Trigger

BRANCH, TAG = "refs/heads/", "refs/tags/"


@dataclass(frozen=True, slots=True)
class Update:
    """A ref that moved from commit `old` to `new`; zeros where there is none."""

    ref: str
    old: str
    new: str

    @property
    def is_delete(self) -> bool:
        return set(self.new) == {"0"}


@dataclass(frozen=True, slots=True)
class Judged:
    """What an update starts, or why nothing. `problem`: the commit's own files are at fault, `failed`: something is.
    `may_pass`: the same commit may be read another time, so the ref does not count as handled."""

    update: Update
    group: GroupPlan | None = None
    why: str = ""
    failed: str = ""
    problem: str = ""
    may_pass: bool = False
    not_needed: dict[str, str] = field(default_factory=dict)
    carried: dict[str, str] = field(default_factory=dict)


@handles("push")
def handle_push(wiring: Wiring, delivery: Delivery) -> None:
    """A push to our own remote, or what the reconciler found."""
    repo = wiring.db.read(lambda session: repo_by_id(session, delivery.repo_id or 0))
    start_pushed(wiring, repo, delivery, [Update(u["ref"], u["old"], u["new"]) for u in delivery.body["updates"]])


def start_pushed(wiring: Wiring, repo: Repo, delivery: Delivery, updates: Sequence[Update]) -> None:
    """Each branch or tag that moved starts what its new commit says; one with problems does not hold up the others.
    The commits are here already."""
    updates = [update for update in updates if update.ref.startswith((BRANCH, TAG))]
    stands = {update.ref: find_standing(wiring, repo, update.ref, update.old, update.new) for update in updates}
    judged: list[Judged] = []

    def plans() -> list[GroupPlan]:
        judged[:] = [_judge(wiring, repo, delivery, update, stands[update.ref]) for update in updates]
        return [one.group for one in judged if one.group is not None]

    def let_again(session: Session) -> None:
        for update in updates:
            if not update.is_delete and not stands[update.ref].is_late:
                let_pushed_run_again(session, repo.id or 0, update.ref, update.new)

    def settle(session: Session, runs: list[Run]) -> None:
        now = wiring.clock.now()
        for one in judged:
            _keep_to_head(session, repo, one, stands[one.update.ref], now)
            if repo.is_mirror:
                _answer(session, repo, one, now)
        forget_not_needed(session, runs)
        failed = [one.failed for one in judged if one.failed]
        state = DeliveryState.FAILED if failed else DeliveryState.PROCESSED if runs else DeliveryState.IGNORED
        said = "\n".join(failed + [one.why for one in judged if one.why])
        reason = said or ("" if runs else "this commit has been run before")
        settle_delivery(session, delivery.id or 0, state, reason, now, repo_id=repo.id)

    write_groups(wiring, plans, settle, let_again)


def _keep_to_head(session: Session, repo: Repo, one: Judged, stands: Standing, now: float) -> None:
    """Late news stop what they themselves made, and never take a branch back to where it was before. What speaks for
    the head goes on, though it was left behind: the head has no run of its own."""
    repo_id, update = repo.id or 0, one.update
    left = {update.new} if stands.is_late else stands.left - set(one.carried.values())
    supersede_push(session, repo_id, update.ref, stands.head, left, now, is_behind=stands.is_behind)
    if stands.goes_on and not one.may_pass:
        note_head(session, repo_id, update.ref, None if update.is_delete else update.new)


def _answer(session: Session, repo: Repo, one: Judged, now: float) -> None:
    if one.problem:
        note_problem(session, repo.id or 0, one.update.new, one.problem, now, Trigger.PUSH)
    note_not_needed(session, repo.id or 0, one.update.new, one.not_needed, now, one.carried)


def _judge(wiring: Wiring, repo: Repo, delivery: Delivery, update: Update, stands: Standing) -> Judged:
    if update.is_delete:
        return Judged(update, why=f"{update.ref} was deleted")
    try:
        return _plan(wiring, repo, delivery, update, stands)
    except (Unavailable, ForgeBusy, ForgeDown):
        raise
    except ConfigProblems as error:
        return Judged(update, failed=error.message, problem=error.message)
    except GitFailed as error:
        if delivery.tries + 1 < MAX_TRIES:
            raise
        return Judged(update, failed=error.message, may_pass=True)
    except DstackError as error:
        return Judged(update, failed=error.message)


def _plan(wiring: Wiring, repo: Repo, delivery: Delivery, update: Update, stands: Standing) -> Judged:
    repo_id = str(repo.id)
    branch = update.ref.removeprefix(BRANCH) if update.ref.startswith(BRANCH) else ""
    tag = update.ref.removeprefix(TAG) if update.ref.startswith(TAG) else ""
    default_branch = wiring.git.default_branch(repo_id)
    occasion = Occasion(
        repo=repo.full_name,
        sha=update.new,
        branch=branch,
        default_branch=default_branch,
        trigger=Trigger.PUSH,
        wheel=wheel_requirement(wiring.settings.public_url),
        key=push_key(repo.id or 0, update.ref, update.new),
        is_late=stands.is_late,
    )
    event = Event(
        trigger=Trigger.PUSH,
        branch=branch,
        tag=tag,
        default_branch=default_branch,
        changed=wiring.git.changed_paths(repo_id, update.old, update.new),
        message=commit_info(wiring.git, repo_id, update.new).message,
    )
    outcome = plan_event(wiring, repo, delivery, occasion, event)
    not_needed, carried = {}, {}
    if branch and outcome.project is not None:
        not_needed = after_push(outcome.project, outcome.chosen, on_default_branch=branch == default_branch)
        if repo.is_mirror:
            unchanged = [one.workflow for one in outcome.chosen if one.idle is Idle.UNCHANGED]
            asked = [name for name in unchanged if name in not_needed]
            carried = find_speakers(wiring, repo, outcome.project, asked, update.old, update.new)
    why = "" if outcome.group else outcome.why
    return Judged(update, outcome.group, why=why, not_needed=not_needed, carried=carried)
