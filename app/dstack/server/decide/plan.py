"""What one delivery asks for: the runs to make, planned from the repository's files without any I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from dstack.language import (
    Context,
    Dependency,
    Project,
    ProviderDefinition,
    ProviderRef,
    Resolved,
    Workflow,
    close_over_needs,
    resolve,
)
from dstack.providers import jobs_for, provider_job
from dstack.server.decide.work_key import work_key
from dstack.wire.job import Job
from dstack.wire.states import Trigger

CLEAN_TRIGGERS = (Trigger.PUSH, Trigger.PULL_REQUEST)


@dataclass(frozen=True, slots=True)
class ProviderSource:
    """A custom provider of another repository, pinned to a commit."""

    definition: ProviderDefinition
    repo_id: int
    sha: str


@dataclass(frozen=True, slots=True)
class TagInput:
    """An input named by a tag: `repo` None is the run's own."""

    workflow: str
    tag: str
    repo: str | None = None
    optional: bool = False
    copy: bool = False

    @property
    def label(self) -> str:
        return f"{self.repo}/{self.workflow}:{self.tag}" if self.repo else f"{self.workflow}:{self.tag}"


@dataclass(frozen=True, slots=True)
class NeedInput:
    """An input from another run of the same group, which must succeed first."""

    workflow: str
    copy: bool = False


@dataclass(frozen=True, slots=True)
class RunPlan:
    """One run to make. `problem` fails it at once with reason `config`."""

    name: str
    workflow: str
    jobs: tuple[Job, ...]
    variables: dict[str, str] = field(default_factory=dict)
    inputs: tuple[TagInput | NeedInput, ...] = ()
    auto_tag: str | None = None
    headline: str | None = None
    better: str = "higher"
    concurrency_group: str | None = None
    cancel_running: bool = False
    key: str | None = None
    problem: str = ""
    provider_source: ProviderSource | None = None  # its first job checks this out, not the run's commit
    is_clean: bool = False  # by push or pull request, with default variables
    gate: str | None = None
    work_key: str = ""
    notify: dict[str, object] | None = None


@dataclass(frozen=True, slots=True)
class GroupPlan:
    """The runs of one delivery, those that are needed first."""

    name: str
    repo_id: int
    sha: str
    trigger: Trigger
    runs: tuple[RunPlan, ...]
    branch: str = ""
    parent_sha: str = ""
    delivery_id: int | None = None
    created_by: str = ""
    trusted: bool = True
    restarted_from: str | None = None
    subject: str = ""
    author: str = ""
    pull_request: int | None = None
    base_branch: str = ""
    objects: str = ""  # see Run
    needs_approval: bool = False
    scheduled_at: float | None = None
    fresh: bool = False  # do the work again, even where an equal run has done it
    is_late: bool = False  # its line of work has another head by now: these runs take nobody's place


@dataclass(frozen=True, slots=True)
class Occasion:
    """The commit and event that runs are planned for. `key` is the event's part of the natural key, None to allow
    the same work again (by hand)."""

    repo: str
    sha: str
    branch: str
    default_branch: str
    trigger: Trigger
    key: str | None = None
    schedule_time: str = ""
    is_working_tree: bool = False  # a commit made of uncommitted changes: no automatic tag for it
    providers: Mapping[ProviderRef, ProviderSource] = field(default_factory=dict)
    trees: Mapping[tuple[str, ...], str] = field(
        default_factory=dict
    )  # `paths` of a workflow -> digest of what they name
    wheel: str = ""  # a requirement line for this version of dstack, for custom providers
    pull_request: int | None = None
    base_branch: str = ""  # of a pull request: where it goes to
    config_sha: str = ""  # the commit whose workflow files count, where that is not `sha` (a fork's pull request)
    objects: str = ""  # the bare repository that has `sha`, where it is not the repo's own
    trusted: bool = True
    needs_approval: bool = False
    scheduled_at: float | None = None
    fresh: bool = False
    is_late: bool = False


def plan_runs(
    project: Project,
    wanted: Sequence[str],
    overrides: Mapping[str, str],
    occasion: Occasion,
    draw_name: Callable[[], str],
    *,
    only_declared: bool = False,
) -> tuple[RunPlan, ...]:
    """Plans for the wanted workflows and those they need, the needed first.

    `overrides` reach each workflow that declares the variable; a wanted one that does not is a problem, unless
    `only_declared`. Raises ConfigProblems when a wanted workflow cannot be resolved: nothing is started by halves.
    """
    order = close_over_needs(project, tuple(wanted))
    asked = () if only_declared else wanted
    plans = []
    for name in order:
        workflow = project.workflows[name]
        known = {key: value for key, value in overrides.items() if name in asked or key in workflow.variables}
        plans.append(plan_run(workflow, known, occasion, draw_name(), set(order), project))
    return tuple(plans)


def plan_run(
    workflow: Workflow,
    overrides: Mapping[str, str],
    occasion: Occasion,
    run_name: str,
    in_group: set[str],
    project: Project | None = None,
) -> RunPlan:
    """The plan of one run."""
    context = Context(
        run_name=run_name,
        repo=occasion.repo,
        sha=occasion.sha,
        branch=occasion.branch,
        trigger=occasion.trigger,
        schedule_time=occasion.schedule_time,
    )
    resolved = resolve(workflow, overrides, context)
    source = occasion.providers.get(resolved.provider)
    on_default = occasion.branch == occasion.default_branch and occasion.pull_request is None
    may_tag = on_default and occasion.trusted and not occasion.is_working_tree
    return RunPlan(
        name=run_name,
        workflow=workflow.name,
        jobs=_jobs(resolved, project, source, occasion.wheel),
        provider_source=source,
        variables=dict(resolved.variables),
        inputs=tuple(_input(dependency, in_group) for dependency in resolved.depends_on),
        auto_tag=resolved.tag if may_tag else None,
        headline=resolved.metrics.headline if resolved.metrics else None,
        better=resolved.metrics.better if resolved.metrics else "higher",
        concurrency_group=resolved.concurrency.group if resolved.concurrency else None,
        cancel_running=bool(resolved.concurrency and resolved.concurrency.cancel_running),
        is_clean=occasion.trigger in CLEAN_TRIGGERS and not overrides and not occasion.is_working_tree,
        gate=workflow.gate,
        notify=asdict(workflow.notify) if workflow.notify else None,
        work_key=_work_key(workflow, overrides, occasion, project, source),
        key=f"{occasion.key}:{workflow.name}" if occasion.key else None,
    )


def _work_key(
    workflow: Workflow,
    overrides: Mapping[str, str],
    occasion: Occasion,
    project: Project | None,
    source: ProviderSource | None,
) -> str:
    tree = occasion.trees.get(workflow.paths, "")
    if not tree:
        return ""
    context = Context(run_name="", repo=occasion.repo, sha=occasion.sha, branch=occasion.branch, trigger="")
    jobs = _jobs(resolve(workflow, overrides, context), project, source, occasion.wheel)
    return work_key(workflow.name, jobs, tree, source.sha if source else "")


def _jobs(resolved: Resolved, project: Project | None, source: ProviderSource | None, wheel: str) -> tuple[Job, ...]:
    own = project.providers.get(resolved.provider.name) if project is not None else None
    definition = source.definition if source is not None else own
    if definition is not None:
        return (provider_job(resolved, definition, wheel),)
    return jobs_for(resolved)


def _input(dependency: Dependency, in_group: set[str]) -> TagInput | NeedInput:
    if dependency.tag is None and dependency.workflow in in_group:
        return NeedInput(dependency.workflow, dependency.copy)
    return TagInput(
        dependency.workflow, dependency.tag or "latest", dependency.repo, dependency.optional, dependency.copy
    )
