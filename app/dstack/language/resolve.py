"""Makes a workflow concrete for one run: variables chosen, every `${{ }}` filled in, every value of its final type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dstack.language.entries import as_said, read_entry
from dstack.language.problems import Problem, listing, nearest, refuse
from dstack.language.reading import Reading
from dstack.language.shapes import MAX_TEXT
from dstack.language.templates import env_name, expand
from dstack.language.workflow import Concurrency, Dependency, ProviderRef, Triggers, Workflow
from dstack.wire.job import DEFAULT_STOP_GRACE_S, ArtifactSpec, Gpu, MetricsSpec, Resources, Retry


@dataclass(frozen=True, slots=True)
class Context:
    """What a run is, for expressions. `schedule_time` is the nominal time of a schedule, ISO 8601 in UTC."""

    run_name: str
    repo: str
    sha: str
    branch: str
    trigger: str
    schedule_time: str = ""

    def values(self) -> dict[str, str]:
        """What each name of an expression is worth."""
        return {
            "run.name": self.run_name, "repo": self.repo, "sha": self.sha, "branch": self.branch,
            "trigger": str(self.trigger), "schedule.time": self.schedule_time,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Resolved:
    """A workflow of one run. Times are in seconds, sizes in bytes; `timeout_s` None means no limit.

    `env` is all that the jobs' environment gets from the files: the variables upper-cased, the workflow's own `env`
    over them, and what shell text refers to. Only `${{ attempt }}` may still stand in it and in options: see
    `fill_attempt`.
    """

    workflow: str
    provider: ProviderRef
    help: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    depends_on: tuple[Dependency, ...] = ()
    artifacts: tuple[ArtifactSpec, ...] = ()
    metrics: MetricsSpec | None = None
    report: str | None = None
    gate: str | None = None
    resources: Resources = field(default_factory=Resources)
    env: dict[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    cache: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    tag: str | None = None
    timeout_s: int | None = None
    stop_grace_s: int = DEFAULT_STOP_GRACE_S
    retry: Retry = field(default_factory=Retry)
    triggers: Triggers = field(default_factory=Triggers)
    concurrency: Concurrency | None = None


def resolve(workflow: Workflow, overrides: Mapping[str, str], context: Context) -> Resolved:
    """The workflow with these variables overridden. Overrides are literal: nothing in them is an expression.

    Raises ConfigProblems naming every unknown variable and every value that does not fit where it is used.
    """
    chosen = _chosen(workflow, overrides)
    variables = expand(workflow.variables, chosen, context.values())
    worth = {**context.values(), **{env_name(name): value for name, value in variables.items()}}
    reading = Reading({env_name(name): name for name in variables}, worth)
    assert workflow.node is not None, "workflows come from read_project or providers.ad_hoc"
    values = read_entry(workflow.node, reading, workflow.name, _custom(workflow))
    if reading.problems or values is None:
        given = ", ".join(f"{name}={value!r}" for name, value in chosen.items())
        refuse(reading.problems, f"given: {given[:500]}" if given else "")
    assert values is not None
    return _resolved(workflow, values, variables, reading.shell_env)


def _custom(workflow: Workflow) -> tuple[str, ...]:
    return (workflow.provider.name,) if workflow.provider.is_custom else ()


def _chosen(workflow: Workflow, overrides: Mapping[str, str]) -> dict[str, str]:
    """Overrides under the spelling in which the workflow declares them."""
    declared = {env_name(name): name for name in workflow.variables}
    problems = []
    chosen: dict[str, str] = {}
    for name, value in overrides.items():
        if env_name(name) not in declared:
            said = f'{workflow.name} has no variable "{name[:100]}"'
            there = listing(workflow.variables) or "none: declare it in .dstack/variables.yaml"
            problems.append(Problem("", 0, 0, said, f"one of {there}", nearest(name, workflow.variables)))
        elif len(value) > MAX_TEXT or "\0" in value:
            problems.append(Problem("", 0, 0, f'the value of "{name}" is too long, or holds a NUL character'))
        else:
            chosen[declared[env_name(name)]] = value
    refuse(problems)
    return chosen


def _resolved(
    workflow: Workflow, values: Mapping[str, Any], variables: dict[str, str], shell_env: Mapping[str, str]
) -> Resolved:
    get = values.get
    env = {env_name(name): value for name, value in variables.items()}
    return Resolved(
        **as_said(values),
        workflow=workflow.name,
        variables=variables,
        resources=resources_of(get("resources", {})),
        env={**env, **get("env", {}), **shell_env},
        timeout_s=get("timeout"),
        stop_grace_s=get("stop-grace", DEFAULT_STOP_GRACE_S),
        triggers=workflow.triggers,
    )


def resources_of(values: Mapping[str, Any]) -> Resources:
    """Resources of the values read under `resources:`."""
    gpu = values.get("gpu", {})
    return Resources(
        gpu=Gpu(**gpu), cpu=values.get("cpu"), memory=values.get("memory"), labels=values.get("labels", ())
    )
