"""A pull request was opened, moved, reopened, closed: what runs at its head, and what needs to run no more."""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlmodel import Session

from dstack.errors import (
    ConfigProblems,
    DstackError,
    ForgeBusy,
    ForgeDown,
    ForgeRefused,
    GitFailed,
    TooLarge,
    Unavailable,
)
from dstack.language import Event
from dstack.server.decide.not_needed import after_pull_request
from dstack.server.decide.plan import GroupPlan, Occasion
from dstack.server.decide.trust import judge_pull
from dstack.server.forge_events import PullRequestEvent
from dstack.server.gateways.forge_facts import PullFacts
from dstack.server.gateways.snapshots import commit_info
from dstack.server.handlers.github import settle
from dstack.server.handlers.registry import handles_event
from dstack.server.handlers.start_runs import plan_event, read_project_at, write_groups
from dstack.server.models import Delivery, PullRequest, Repo, Run
from dstack.server.models.delivery import DeliveryState
from dstack.server.services.build_wheel import wheel_requirement
from dstack.server.services.mirror_commit import mirror_commit
from dstack.server.services.note_not_needed import forget_not_needed, note_not_needed, note_problem
from dstack.server.services.record_pull import note_changed, note_handled, pull_or_gone, record_pull
from dstack.server.services.settle_delivery import settle_delivery
from dstack.server.services.supersede_pull import let_head_run_again, running_workflows, stop_closed, supersede_pull
from dstack.server.store.github import approval_of, pull_by_number
from dstack.server.store.outbox import mark_commit_outdated
from dstack.server.wiring import Wiring, place_of
from dstack.wire.states import Trigger


@handles_event(PullRequestEvent)
def handle_pull_request(wiring: Wiring, delivery: Delivery, repo: Repo, event: PullRequestEvent) -> None:
    """Raises ForgeBusy and ForgeDown, so that the delivery waits for the forge."""
    pull = _record(wiring, repo, event.pull)
    action = event.origin.action
    if action == "closed":
        _close(wiring, delivery, repo, pull)
    elif action == "converted_to_draft":
        _note_draft(wiring, delivery, repo, pull)
    else:
        # A pull request that goes to another branch now is judged as if it had moved.
        start_pull(wiring, delivery, repo, event.pull, "synchronize" if action == "edited" else action)


def _record(wiring: Wiring, repo: Repo, facts: PullFacts) -> PullRequest:
    """News that is no younger than what is known and says something else: the forge is asked which holds."""
    known, told = wiring.db.read(lambda s: pull_by_number(s, repo.id or 0, facts.number)), facts
    if known is not None and facts.updated_at <= known.updated_at and _differs(known, facts):
        try:
            facts = pull_or_gone(wiring.forge, place_of(repo), known)
        except ForgeRefused:
            return known
    return wiring.db.write(lambda s: record_pull(s, repo.id or 0, facts, wiring.clock.now(), told))


def _differs(known: PullRequest, facts: PullFacts) -> bool:
    names = ("head_sha", "base_branch", "is_open", "is_draft")
    return any(getattr(known, name) != getattr(facts, name) for name in names)


@dataclass(frozen=True, slots=True)
class _Judged:
    group: GroupPlan | None = None
    why: str = ""
    problem: str = ""
    not_needed: dict[str, str] = field(default_factory=dict)


def start_pull(wiring: Wiring, delivery: Delivery, repo: Repo, facts: PullFacts, action: str) -> None:
    """The runs of a pull request with this head; each is made once, whichever event comes first. Where the pull request
    has another head by now, they are made and give way to those of that head."""
    pull = wiring.db.read(lambda s: pull_by_number(s, repo.id or 0, facts.number))
    assert pull is not None, "it has been recorded"
    try:
        objects = mirror_pull(wiring, repo, facts, pull)
    except (GitFailed, ForgeRefused) as error:
        if facts.head_sha == pull.head_sha:
            raise
        why = f"{facts.head_sha[:7]} is gone, the head is {pull.head_sha[:7]}: {error.message}"
        settle(wiring, delivery, DeliveryState.IGNORED, why, repo)
        return
    except TooLarge as error:
        # It stays too large: nobody is to fetch it again.
        wiring.db.write(lambda s: note_handled(s, repo.id or 0, facts))
        settle(wiring, delivery, DeliveryState.FAILED, f"{error.message}: {error.hint}", repo)
        return
    judged = _Judged()

    def plans() -> list[GroupPlan]:
        nonlocal judged
        judged = _judge(wiring, delivery, repo, pull, facts, objects, action)
        return [judged.group] if judged.group is not None else []

    def let_again(session: Session) -> None:
        if _is_present(pull, facts):
            let_head_run_again(session, pull)

    def settle_all(session: Session, runs: list[Run]) -> None:
        now, repo_id = wiring.clock.now(), repo.id or 0
        current = pull_by_number(session, repo_id, facts.number)
        assert current is not None
        supersede_pull(session, current, now)
        if runs:  # from now on they speak at the commit
            mark_commit_outdated(session, repo_id, facts.head_sha, now)
        if judged.problem:
            note_problem(session, repo_id, facts.head_sha, judged.problem, now, Trigger.PULL_REQUEST)
        note_not_needed(session, repo_id, facts.head_sha, judged.not_needed, now)
        forget_not_needed(session, runs)
        note_handled(session, repo_id, facts)
        state = DeliveryState.FAILED if judged.problem else DeliveryState.PROCESSED if runs else DeliveryState.IGNORED
        reason = judged.problem or judged.why or ("" if runs else "this head has been run before")
        settle_delivery(session, delivery.id or 0, state, reason, now, repo_id=repo_id)

    write_groups(wiring, plans, settle_all, let_again)


def _is_present(pull: PullRequest, facts: PullFacts) -> bool:
    """Whether it is open, this is still its head, and where it goes to."""
    return pull.is_open and (pull.head_sha, pull.base_branch) == (facts.head_sha, facts.base_branch)


def mirror_pull(wiring: Wiring, repo: Repo, facts: PullFacts, pull: PullRequest) -> str:
    """Fetch the head and what it is compared with; the bare repository that has the head ("": the repo's own)."""
    mirror_commit(wiring, repo, facts.base_sha, branch=facts.base_branch)
    return mirror_commit(wiring, repo, facts.head_sha, pull=pull)


def _judge(
    wiring: Wiring, delivery: Delivery, repo: Repo, pull: PullRequest, facts: PullFacts, objects: str, action: str
) -> _Judged:
    git, where = wiring.git, objects or str(repo.id)
    base = git.merge_base(where, facts.base_sha, facts.head_sha)
    occasion = pull_occasion(wiring, repo, pull, facts, objects)
    event = Event(
        trigger=Trigger.PULL_REQUEST,
        branch=facts.base_branch,
        default_branch=occasion.default_branch,
        changed=git.changed_paths(where, base, facts.head_sha) if base is not None else None,
        # A stranger's message skips nothing: "not needed" is green, and whoever merges by statuses would merge it.
        message="" if facts.is_fork else commit_info(git, where, facts.head_sha).message,
        action=action,
        is_draft=facts.is_draft,
    )
    try:
        outcome = plan_event(wiring, repo, delivery, occasion, event)
    except ConfigProblems as error:
        return _Judged(problem=error.message)
    not_needed = {}
    if outcome.project is not None:
        not_needed = after_pull_request(outcome.project, outcome.chosen, is_fork=facts.is_fork)
    return _Judged(outcome.group, "" if outcome.group else outcome.why, not_needed=not_needed)


def pull_occasion(wiring: Wiring, repo: Repo, pull: PullRequest, facts: PullFacts, objects: str) -> Occasion:
    """The head of a pull request, as far as it is trusted."""
    approval = wiring.db.read(lambda s: approval_of(s, repo.id or 0, facts.number, facts.head_sha))
    trust = judge_pull(facts.is_fork, approval.sha if approval is not None else None, facts.head_sha)
    return Occasion(
        repo=repo.full_name,
        sha=facts.head_sha,
        branch=facts.head_branch,
        default_branch=wiring.git.default_branch(str(repo.id)),
        trigger=Trigger.PULL_REQUEST,
        key=f"pull:{repo.id}:{facts.number}:{facts.head_sha}:{facts.base_branch}",
        wheel=wheel_requirement(wiring.settings.public_url),
        pull_request=facts.number,
        base_branch=facts.base_branch,
        config_sha=facts.base_sha if trust.config_from_base else "",
        objects=objects,
        trusted=trust.trusted,
        needs_approval=trust.needs_approval,
        is_late=not _is_present(pull, facts),
    )


def _note_draft(wiring: Wiring, delivery: Delivery, repo: Repo, pull: PullRequest) -> None:
    def unit(session: Session) -> None:
        note_changed(session, pull.repo_id, pull.number, is_draft=True)
        why = f"#{pull.number} is a draft again; what runs goes on"
        settle_delivery(session, delivery.id or 0, DeliveryState.IGNORED, why, wiring.clock.now(), repo_id=repo.id)

    wiring.db.write(unit)


def _close(wiring: Wiring, delivery: Delivery, repo: Repo, pull: PullRequest) -> None:
    running = wiring.db.read(lambda s: running_workflows(s, pull))
    cancel = {workflow for workflow, where, sha in running if _cancels_running(wiring, repo, workflow, where, sha)}

    def unit(session: Session) -> None:
        now = wiring.clock.now()
        count = 0
        if not pull.is_open:
            count = stop_closed(session, pull, cancel, now)
            note_changed(session, pull.repo_id, pull.number, is_open=False)
        state = DeliveryState.PROCESSED if count else DeliveryState.IGNORED
        reason = f"#{pull.number} was closed; {count or 'no'} {'run was' if count == 1 else 'runs were'} stopped"
        settle_delivery(session, delivery.id or 0, state, reason, now, repo_id=repo.id)

    wiring.db.write(unit)


def _cancels_running(wiring: Wiring, repo: Repo, workflow: str, where: str, sha: str) -> bool:
    try:
        found = read_project_at(wiring, repo, sha, where).workflows.get(workflow)
    except (Unavailable, ForgeBusy, ForgeDown):
        raise
    except DstackError:
        return False  # its files cannot be read any more: it is left to run
    return found is not None and found.concurrency is not None and found.concurrency.cancel_running
