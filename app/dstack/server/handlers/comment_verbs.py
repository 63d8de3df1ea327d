"""What each command of a comment does. A change and its answer are one unit, so that no command is done twice; whether
its author may give it was asked before."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from sqlmodel import Session

from dstack.errors import Conflict, Invalid, NotFound, Usage
from dstack.language import Context, Event, Project, Resolved, Workflow, close_over_needs, resolve, select
from dstack.language.flags import Flags, read_flags
from dstack.language.problems import nearest
from dstack.server.decide.commands import Asked, Verb
from dstack.server.decide.names import is_run_name
from dstack.server.decide.plan import GroupPlan, plan_runs
from dstack.server.decide.trust import approved_commit
from dstack.server.gateways.snapshots import commit_info
from dstack.server.handlers.comment_scene import Scene
from dstack.server.handlers.sources import with_sources
from dstack.server.handlers.start_runs import group_of, write_groups
from dstack.server.models import Run
from dstack.server.report.markdown import plain
from dstack.server.report.picture import newest_at
from dstack.server.report.replies import Answer, event_plan_text, help_text, plan_text, status_text
from dstack.server.services.approve_pull import approve_pull
from dstack.server.services.restart_run import restart_run
from dstack.server.services.stop_run import stop_run
from dstack.server.store.adoption import adopters_of
from dstack.server.store.pulls import is_of_pull, runs_of_pull
from dstack.server.store.runs import run_by_name
from dstack.server.transitions.tags import move_tag
from dstack.wire.states import JobState, Reason, Trigger

Record = Callable[[Session, Answer], None]
_MOST_NAMED = 5  # runs that an answer lists


def do(scene: Scene, asked: Asked, line: str, key: str, record: Record) -> None:
    """Do it and record what came of it. Raises DstackError with nothing done."""
    if asked.verb is Verb.RUN:
        _run(scene, asked, line, key, record)
    elif asked.verb in _TELLS:
        answer = Answer(line, True, _TELLS[asked.verb](scene, asked))
        scene.wiring.db.write(lambda session: record(session, answer))
    else:
        change = _CHANGES[asked.verb](scene, asked)
        scene.wiring.db.write(lambda session: record(session, change(session, line)))


def _run(scene: Scene, asked: Asked, line: str, key: str, record: Record) -> None:
    """The workflows and those they need, at the head that the comment was made at."""
    scene.require_head()
    project = scene.project
    flags = _flags(project, asked)
    occasion = scene.occasion(key, fresh=flags.fresh)
    occasion = with_sources(scene.wiring, scene.repo, project, asked.workflows, occasion)
    several = len(asked.workflows) > 1

    def plans() -> list[GroupPlan]:
        draw = scene.wiring.clock.new_name
        runs = plan_runs(project, asked.workflows, flags.variables, occasion, draw, only_declared=several)
        return [group_of(scene.wiring, scene.repo, scene.delivery, occasion, runs)]

    def also(session: Session, runs: list[Run]) -> None:
        record(session, Answer(line, True, runs=tuple(run.name for run in runs), is_told=False))

    write_groups(scene.wiring, plans, also)


def _flags(project: Project, asked: Asked) -> Flags:
    """The options, as variables of the workflows. Raises Usage with what there is."""
    chosen = [_workflow(project, name) for name in asked.workflows]
    defaults = {name: value for workflow in chosen for name, value in workflow.variables.items()}
    return read_flags(asked.flags, ", ".join(asked.workflows), defaults)


def _workflow(project: Project, name: str) -> Workflow:
    if name not in project.workflows:
        there_are = f"It has: {', '.join(sorted(project.workflows)) or 'none'}."
        meant = nearest(name, project.workflows)
        raise Usage(f"there is no workflow {name!r} in this commit", f"{meant.capitalize()} {there_are}".strip())
    return project.workflows[name]


# Commands that tell


def _plan(scene: Scene, asked: Asked) -> str:
    project = scene.project
    if not asked.workflows:
        return event_plan_text(project, _planned(scene, project), scene.sha)
    flags = _flags(project, asked)
    order = close_over_needs(project, asked.workflows)
    resolved = [_resolved(scene, project.workflows[name], flags.variables, asked) for name in order]
    return plan_text(resolved, scene.sha)


def _resolved(scene: Scene, workflow: Workflow, variables: Mapping[str, str], asked: Asked) -> Resolved:
    known = {k: v for k, v in variables.items() if workflow.name in asked.workflows or k in workflow.variables}
    context = Context("run-1", scene.repo.full_name, scene.sha, scene.pull.head_branch, Trigger.COMMENT)
    return resolve(workflow, known, context)


def _planned(scene: Scene, project: Project) -> list[tuple[str, str, str]]:
    """What a push to this pull request starts: those that start, those they need, then the others."""
    chosen = {selection.workflow: selection for selection in select(project, _push_to_pull(scene))}
    order = close_over_needs(project, tuple(name for name, selection in chosen.items() if selection.starts))
    planned = []
    for name in order:
        needed_by = [other for other in order if name in project.workflows[other].needs]
        first = (name, "runs first", f"{', '.join(needed_by)} needs it")
        planned.append((name, "starts", chosen[name].why) if chosen[name].starts else first)
    return planned + [(name, "no", selection.why) for name, selection in chosen.items() if name not in order]


def _push_to_pull(scene: Scene) -> Event:
    git, where, pull = scene.wiring.git, scene.objects or str(scene.repo_id), scene.pull
    base = git.merge_base(where, scene.base_sha, scene.sha)
    return Event(
        trigger=Trigger.PULL_REQUEST,
        branch=pull.base_branch,
        default_branch=git.default_branch(str(scene.repo_id)),
        changed=git.changed_paths(where, base, scene.sha) if base is not None else None,
        message="" if pull.is_fork else commit_info(git, where, scene.sha).message,
        action="synchronize",
        is_draft=pull.is_draft,
    )


def _help(scene: Scene, asked: Asked) -> str:
    return help_text(list(scene.project.workflows.values()), scene.sha)


def _status(scene: Scene, asked: Asked) -> str:
    wiring = scene.wiring
    runs = wiring.db.read(lambda session: _newest_at_head(session, scene))
    return status_text(runs, scene.sha, lambda name: f"{wiring.settings.public_url}/runs/{name}")


# Commands that change something; each answers the unit that does it

Change = Callable[[Session, str], Answer]


def _stop(scene: Scene, asked: Asked) -> Change:
    def unit(session: Session, line: str) -> Answer:
        now = scene.wiring.clock.now()
        if asked.run:
            stop_run(session, _named(session, scene, asked.run), group=False, by=scene.author, now=now)
            return Answer(line, True, "stopped", (asked.run,), is_told=False)
        runs = [run for run in runs_of_pull(session, scene.pull) if not run.state.is_final]
        if not runs:
            raise Conflict(f"nothing of #{scene.pull.number} runs or waits")
        for run in runs:  # newest first: those that need others, so that each is stopped for this reason
            if not run.state.is_final:
                stop_run(session, run, group=False, by=scene.author, now=now)
        return Answer(line, True, "stopped", tuple(run.name for run in runs), is_told=False)

    return unit


def _retry(scene: Scene, asked: Asked) -> Change:
    if not asked.run:
        scene.require_head()

    def unit(session: Session, line: str) -> Answer:
        again = [_named(session, scene, asked.run)] if asked.run else _ended_badly_at_head(session, scene)
        made, problems = _restart(session, scene, again)
        text = "\n".join(["started again", *(f"- {plain(problem)}" for problem in problems)])
        return Answer(line, True, text, tuple(run.name for run in made), is_told=bool(problems))

    return unit


def _restart(session: Session, scene: Scene, again: Sequence[Run]) -> tuple[list[Run], list[str]]:
    """One that cannot be started again keeps no other from it; raises Conflict where none can."""
    made, problems = [], []
    for run in again:
        try:
            made.append(restart_run(session, run, by=scene.author, clock=scene.wiring.clock))
        except Conflict as error:
            if len(again) == 1:
                raise
            problems.append(f"{error.message}. {error.hint}")
    return made, problems


def _newest_at_head(session: Session, scene: Scene) -> list[Run]:
    """Of each workflow the newest run of the pull request at its head, as its comment shows them, oldest first."""
    at_head, _ = newest_at(runs_of_pull(session, scene.pull), scene.pull)
    return list({run.workflow: run for run in at_head}.values())


def _ended_badly_at_head(session: Session, scene: Scene) -> list[Run]:
    """What failed, and what gave way to other work."""
    newest = _newest_at_head(session, scene)
    ended = [run for run in newest if run.state is JobState.FAILED or run.reason is Reason.SUPERSEDED_BY]
    if not ended:
        raise Conflict(f"no run has failed at {scene.sha[:7]}")
    return ended


def _tag(scene: Scene, asked: Asked) -> Change:
    def unit(session: Session, line: str) -> Answer:
        run = _named(session, scene, asked.run, or_adopted=True)
        tag = move_tag(session, run, asked.tag, by=scene.author, now=scene.wiring.clock.now())
        return Answer(line, True, f"`{tag.label}` stands on", (run.name,), is_told=False)

    return unit


def _approve(scene: Scene, asked: Asked) -> Change:
    """The commit is named, so it does not matter when it became the head; the branch it goes to is not."""
    head = approved_commit(asked.sha, scene.sha)
    scene.require_base()
    _check_names_one(scene, asked.sha)

    def unit(session: Session, line: str) -> Answer:
        runs = approve_pull(
            session,
            scene.repo,
            scene.pull.number,
            head,
            by=scene.author,
            gpu_seconds=asked.gpu_seconds,
            now=scene.wiring.clock.now(),
            seen_base=scene.pull.base_branch,
        )
        return Answer(line, True, f"{head[:7]} is approved", tuple(run.name for run in runs), is_told=False)

    return unit


def _check_names_one(scene: Scene, given: str) -> None:
    """Whoever makes two commits can make them begin alike in seconds: show one to be looked at, then push the other.
    Earlier heads are still here. Raises Invalid."""
    try:
        scene.wiring.git.resolve(scene.objects or str(scene.repo_id), given)
    except NotFound:
        raise Invalid(
            f"more than one commit begins with {given}: nothing is approved",
            f"The head is {scene.sha}. Look at it, then give the whole of the id you looked at.",
        ) from None


def _named(session: Session, scene: Scene, name: str, *, or_adopted: bool = False) -> Run:
    """A run of this pull request, `or_adopted` also one whose result a run of it took over. One of another repository
    reads as one that is not there."""
    run = run_by_name(session, name) if is_run_name(name) else None
    if run is None or run.repo_id != scene.repo_id:
        raise NotFound(f"{scene.repo.full_name} has no run {name!r}")
    takers = adopters_of(session, run.id or 0) if or_adopted else []
    if not any(is_of_pull(scene.pull, one) for one in (run, *takers)):
        mine = ", ".join(one.name for one in runs_of_pull(session, scene.pull)[:_MOST_NAMED])
        raise Conflict(f"{name} is no run of #{scene.pull.number}", f"Those are: {mine or 'none'}.")
    return run


_TELLS = {Verb.PLAN: _plan, Verb.HELP: _help, Verb.STATUS: _status}
_CHANGES = {Verb.STOP: _stop, Verb.RETRY: _retry, Verb.TAG: _tag, Verb.APPROVE: _approve}
