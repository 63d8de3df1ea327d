"""Buttons on our checks at the forge: run again, tag, approve. Whoever presses must be allowed to write there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from sqlmodel import Session

from dstack.errors import Conflict, DstackError, ForgeRefused, NotFound
from dstack.server.decide.speaking import who_speaks
from dstack.server.forge_events import CheckRunEvent, CheckSuiteEvent, Origin
from dstack.server.gateways.forge_facts import Permission
from dstack.server.gateways.kept import keep_commits
from dstack.server.handlers.github import settle
from dstack.server.handlers.read_again import ask_pulls, read_again
from dstack.server.handlers.registry import handles_event
from dstack.server.models import Delivery, Group, Repo, Run
from dstack.server.models.delivery import DeliveryState
from dstack.server.report.check import APPROVE, OF_COMMIT, OF_PROBLEMS, OF_RUN, TAG_LATEST
from dstack.server.report.voices import voice_of
from dstack.server.services.restart_run import restart_run
from dstack.server.services.settle_delivery import settle_delivery
from dstack.server.store.pulls import pulls_at
from dstack.server.store.reports import tell_checks_again
from dstack.server.store.run_facts import problem_of_commit
from dstack.server.store.runs import clean_runs_at, run_by_name, runs_of_delivery
from dstack.server.transitions.deliveries import receive_delivery
from dstack.server.transitions.tags import move_tag
from dstack.server.wiring import Wiring, place_of

_DIGITS = 15
Act = Callable[[Session], str]


@handles_event(CheckRunEvent)
def handle_check_run(wiring: Wiring, delivery: Delivery, repo: Repo, event: CheckRunEvent) -> None:
    """Raises ForgeBusy and ForgeDown: whoever is not known to be allowed is not."""
    button, _, number = event.identifier.partition(":")
    run = wiring.db.read(lambda s: _run_meant(s, event, number))
    if run is None or run.repo_id != repo.id:
        again = event.origin.action == "rerequested"
        if again and event.external_id.startswith((OF_COMMIT, OF_PROBLEMS)):
            _do_again(wiring, delivery, repo, event.origin, event.head_sha, whole=_is_of_commit(event))
        else:
            _refuse(wiring, delivery, repo, event.origin, event.head_sha, "it is not a check of a run here")
        return
    acts: dict[str, Act] = {
        "rerequested": partial(_restart, wiring, delivery, run.name),
        TAG_LATEST.identifier: partial(_tag, wiring, delivery, run.name),
        APPROVE.identifier: partial(_approve, wiring, delivery, run.name),
    }
    action = button if event.origin.action == "requested_action" else event.origin.action
    if action not in acts:
        settle(wiring, delivery, DeliveryState.IGNORED, f"there is no button {action[:40]!r}", repo)
        return
    _act(wiring, delivery, repo, event.origin, acts[action], event.head_sha, run)


@handles_event(CheckSuiteEvent)
def handle_check_suite(wiring: Wiring, delivery: Delivery, repo: Repo, event: CheckSuiteEvent) -> None:
    """Re-run all checks. Raises ForgeBusy and ForgeDown."""
    _do_again(wiring, delivery, repo, event.origin, event.head_sha, whole=True)


def _do_again(wiring: Wiring, delivery: Delivery, repo: Repo, origin: Origin, sha: str, *, whole: bool) -> None:
    """Read the files of a commit that had problems, and with `whole` also run again what has run there."""
    problem = wiring.db.read(lambda s: problem_of_commit(s, repo.id or 0, sha))
    acts: list[Act] = [partial(_restart_all, wiring, delivery, repo, sha)] if whole else []
    if not whole or (problem is not None and problem.why):
        pulls = ask_pulls(wiring, repo, sha)
        acts.append(lambda s: read_again(s, wiring, delivery, repo, sha, pulls))
    _act(wiring, delivery, repo, origin, partial(_whatever_can_be_done, acts), sha)


def _whatever_can_be_done(acts: Sequence[Act], session: Session) -> str:
    """Raises Conflict where nothing could."""
    said, problems = [], []
    for act in acts:
        try:
            said.append(act(session))
        except Conflict as error:
            problems.append(error)
    if not said:
        raise problems[0]
    return "\n".join(said)


def _run_meant(session: Session, event: CheckRunEvent, number: str) -> Run | None:
    """That of the check; of a check that stands for all runs of its commit, the one that the button is about."""
    if event.external_id.startswith(OF_RUN):
        return run_by_name(session, event.external_id.removeprefix(OF_RUN))
    if not _is_of_commit(event) or not number.isdecimal() or len(number) > _DIGITS:
        return None
    run = session.get(Run, int(number))
    return run if run is not None and run.sha == event.head_sha else None


def _is_of_commit(event: CheckRunEvent) -> bool:
    """One check stands for all runs of a commit, where the server is set to that."""
    return event.external_id.startswith(OF_COMMIT)


def _act(
    wiring: Wiring, delivery: Delivery, repo: Repo, origin: Origin, act: Act, sha: str, run: Run | None = None
) -> None:
    """At the checks of `sha`, or at the one of `run`."""
    if not _may_write(wiring, repo, origin.sender):
        who = origin.sender or "somebody unknown"
        _refuse(wiring, delivery, repo, origin, sha, f"{who} may not write to {repo.full_name}", run)
        return

    def unit(session: Session) -> None:
        reason = act(session)
        now = wiring.clock.now()
        settle_delivery(session, delivery.id or 0, DeliveryState.PROCESSED, reason, now, repo_id=repo.id)

    try:
        wiring.db.write(unit)
    except (Conflict, NotFound) as error:
        _refuse(wiring, delivery, repo, origin, sha, f"{error.message}. {error.hint}".strip(), run)
        return
    _keep_commits(wiring, delivery)


def _refuse(
    wiring: Wiring, delivery: Delivery, repo: Repo, origin: Origin, sha: str, why: str, run: Run | None = None
) -> None:
    """Nothing new begins: what was asked for again is told again, or the forge would wait for it for ever."""
    if origin.action == "rerequested":
        run_id = run.id if run is not None else None
        wiring.db.write(lambda s: tell_checks_again(s, repo.id or 0, sha, wiring.clock.now(), run_id=run_id))
    settle(wiring, delivery, DeliveryState.IGNORED, why, repo)


def _may_write(wiring: Wiring, repo: Repo, login: str) -> bool:
    try:
        permission = wiring.forge.permission(place_of(repo), login) if login else Permission.NONE
    except ForgeRefused:
        return False
    return permission.may_write


def _restart(wiring: Wiring, delivery: Delivery, name: str, session: Session) -> str:
    old = run_by_name(session, name)
    if old is None:
        raise Conflict(f"the run {name} is gone")
    run = restart_run(session, old, by=delivery.sender, clock=wiring.clock)
    group = session.get(Group, run.group_id)
    assert group is not None
    group.delivery_id = delivery.id
    session.add(group)
    return f"{run.name} does the work of {old.name} again"


def _restart_all(wiring: Wiring, delivery: Delivery, repo: Repo, sha: str, session: Session) -> str:
    """Of each workflow the runs that speak at this commit, if they have ended. Raises Conflict where none is run
    again."""
    done, refused = [], []
    for old in _speaking(session, repo.id or 0, sha):
        try:
            with session.begin_nested():
                done.append(_restart(wiring, delivery, old.name, session))
        except DstackError as error:
            refused.append(error.message)
    if not done:
        raise Conflict("\n".join(refused) or f"nothing has run at {sha[:7]}")
    return "\n".join([*done, *refused])


def _speaking(session: Session, repo_id: int, sha: str) -> list[Run]:
    aims = [(pull.number, pull.base_branch) for pull in pulls_at(session, repo_id, sha)]
    of_workflows: dict[str, list[Run]] = {}
    for run in clean_runs_at(session, repo_id, sha):
        of_workflows.setdefault(run.workflow, []).append(run)
    spoken = {run_id for runs in of_workflows.values() for run_id in who_speaks([voice_of(r) for r in runs], aims)}
    return [run for runs in of_workflows.values() for run in runs if run.id in spoken]


def _tag(wiring: Wiring, delivery: Delivery, name: str, session: Session) -> str:
    run = run_by_name(session, name)
    if run is None:
        raise Conflict(f"the run {name} is gone")
    try:
        tag = move_tag(session, run, "latest", by=delivery.sender, now=wiring.clock.now())
    except DstackError as error:
        raise Conflict(error.message, error.hint) from None
    return f"{tag.label} is on {run.name}"


def _approve(wiring: Wiring, delivery: Delivery, name: str, session: Session) -> str:
    """Files the approval: what follows from it is that delivery's."""
    run = run_by_name(session, name)
    if run is None or run.pull_request is None:
        raise Conflict(f"{name} is not of a pull request")
    body = {
        "number": run.pull_request,
        "sha": run.sha,
        "by": delivery.sender,
        "gpu_seconds": None,
        "base": run.base_branch,
    }
    receive_delivery(
        session,
        "approved",
        f"approved:{delivery.id}",
        body,
        repo_id=run.repo_id,
        sender=delivery.sender,
        now=wiring.clock.now(),
    )
    return f"{delivery.sender} approves {run.sha[:7]} of #{run.pull_request}"


def _keep_commits(wiring: Wiring, delivery: Delivery) -> None:
    """Runs made again hold their commits, as every run does."""
    for run in wiring.db.read(lambda s: runs_of_delivery(s, delivery.id or 0)):
        keep_commits(wiring.git, run.git_id, {run.name: run.sha})
