"""What authors of providers build on: the standard library and the job alone; how jobs are run is left to the runner.

    from dstack import Command, Provider

    class Sweep(Provider):
        def jobs(self, workflow):
            return [
                workflow.job([Command(argv=("python", "train.py", "--lr", lr))], name=f"lr-{lr}")
                for lr in workflow.options["rates"]
            ]

`.dstack/providers.yaml` names it (`{name: sweep, module: "sweep:Sweep"}`); a workflow asks for it (`provider: sweep`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from dstack.wire.job import (
    DEFAULT_STOP_GRACE_S,
    ArtifactSpec,
    Command,
    Job,
    MetricsSpec,
    Resources,
    Retry,
)


@dataclass(frozen=True, slots=True)
class ResolvedWorkflow:
    """A workflow of one run as a provider gets it: variables chosen and every expression filled in.

    `options` are the keys of the entry that are not common ones; under a custom provider their values are text as
    written (`"3"`, `"1e-3"`, `"true"`), lists and mappings of it. They come from people, and in a run that a comment or
    an event started from outsiders: hand them on in `argv` or `env`, never as part of a shell text.
    """

    name: str
    provider: str
    options: dict[str, Any] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    artifacts: tuple[ArtifactSpec, ...] = ()
    resources: Resources = field(default_factory=Resources)
    secrets: tuple[str, ...] = ()
    cache: tuple[str, ...] = ()
    metrics: MetricsSpec | None = None
    report: str | None = None
    timeout_s: int | None = None
    stop_grace_s: int = DEFAULT_STOP_GRACE_S
    retry: Retry = field(default_factory=Retry)

    def job(self, commands: Iterable[Command], **changes: Any) -> Job:
        """A job with these commands and all that the workflow says; `changes` are fields of Job that differ.

        `env=` is put over the workflow's environment, every other change takes the place of what was there.
        """
        env = {**self.env, **changes.pop("env", {})}
        whole = Job(
            commands=tuple(commands),
            name=self.name,
            env=env,
            artifacts=self.artifacts,
            resources=self.resources,
            secrets=self.secrets,
            cache=self.cache,
            metrics=self.metrics,
            report=self.report,
            timeout_s=self.timeout_s,
            stop_grace_s=self.stop_grace_s,
            retry=self.retry,
        )
        return replace(whole, **changes)


class Provider:
    """Turns a workflow into jobs. A subclass has `jobs`; it is made without arguments, and asked once per run."""

    def jobs(self, workflow: ResolvedWorkflow) -> list[Job]:
        """The jobs of this run, at most 256, each with a name of its own when there are several.

        Raise ValueError with a sentence about what is wrong with the options: the run fails and shows it.
        """
        raise NotImplementedError(f"{type(self).__name__} has no method jobs(self, workflow)")
