"""What every handler does once it knows the commit and the event: read the files, choose workflows, make the runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sqlmodel import Session

from dstack.errors import ConfigProblems, Invalid
from dstack.language import FILES, Event, Project, Selection, read_project, select
from dstack.server.decide.plan import GroupPlan, Occasion, RunPlan, plan_runs
from dstack.server.gateways.snapshots import commit_info, read_files
from dstack.server.handlers.sources import with_sources
from dstack.server.models import Delivery, Repo, Run
from dstack.server.services.create_group import NameTaken, create_group
from dstack.server.wiring import Wiring

_DRAWS = 20


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it: the plan (None: nothing to start) and, for nothing, why. `chosen` says it of each workflow of
    the `project`."""

    group: GroupPlan | None
    why: str = ""
    project: Project | None = None
    chosen: tuple[Selection, ...] = ()


def read_project_at(wiring: Wiring, repo: Repo, sha: str, objects: str = "") -> Project:
    """The workflows as they stand at a commit. Raises ConfigProblems when the files have any problem, or cannot be read
    at all: whoever pushed them is told that in the same place. Raises NotFound for no such commit."""
    try:
        files = read_files(wiring.git, objects or str(repo.id), sha, FILES)
    except Invalid as error:
        raise ConfigProblems(error.message, error.hint) from None
    project = read_project(files)
    if project.problems:
        raise ConfigProblems("\n".join(str(problem) for problem in project.problems))
    return project


def plan_event(
    wiring: Wiring,
    repo: Repo,
    delivery: Delivery,
    occasion: Occasion,
    event: Event,
    variables: Mapping[str, str] | None = None,
) -> Outcome:
    """Which workflows of this commit the event starts, and with which of `variables` (those they declare)."""
    project = read_project_at(
        wiring, repo, occasion.config_sha or occasion.sha, "" if occasion.config_sha else occasion.objects
    )
    if not project.workflows:
        return Outcome(None, "the commit has no .dstack/workflows.yaml")
    chosen = select(project, event)
    starts = [selection.workflow for selection in chosen if selection.starts]
    if not starts:
        return Outcome(None, "; ".join(f"{s.workflow}: {s.why}" for s in chosen), project, chosen)
    occasion = with_sources(wiring, repo, project, starts, occasion)
    draw = wiring.clock.new_name
    runs = plan_runs(project, starts, variables or {}, occasion, draw, only_declared=True)
    return Outcome(group_of(wiring, repo, delivery, occasion, runs), "", project, chosen)


def group_of(
    wiring: Wiring, repo: Repo, delivery: Delivery, occasion: Occasion, runs: tuple[RunPlan, ...], parent_sha: str = ""
) -> GroupPlan:
    commit = commit_info(wiring.git, occasion.objects or str(repo.id), parent_sha or occasion.sha)
    return GroupPlan(
        name=wiring.clock.new_name(),
        repo_id=repo.id or 0,
        sha=occasion.sha,
        trigger=occasion.trigger,
        runs=runs,
        branch=occasion.branch,
        parent_sha=parent_sha,
        delivery_id=delivery.id,
        created_by=delivery.sender,
        subject=commit.subject,
        author=commit.author,
        trusted=occasion.trusted,
        pull_request=occasion.pull_request,
        base_branch=occasion.base_branch,
        objects=occasion.objects,
        needs_approval=occasion.needs_approval,
        scheduled_at=occasion.scheduled_at,
        fresh=occasion.fresh,
        is_late=occasion.is_late,
    )


def write_groups(
    wiring: Wiring,
    plans: Callable[[], list[GroupPlan]],
    also: Callable[[Session, list[Run]], None],
    first: Callable[[Session], None] = lambda session: None,
) -> list[Run]:
    """Plan, then write in one unit: `first`, the runs, and `also`; plan again when a drawn name was taken."""
    now = wiring.clock.now()
    for _ in range(_DRAWS):
        groups = plans()

        def unit(session: Session, groups: list[GroupPlan] = groups) -> list[Run]:
            first(session)
            runs = [run for plan in groups for run in create_group(session, plan, now)]
            also(session, runs)
            return runs

        try:
            return wiring.db.write(unit)
        except NameTaken:
            continue
    raise NameTaken("no free name was found for a run")
