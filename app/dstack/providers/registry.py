"""The built-in providers by name, and the jobs they make of a resolved workflow."""

from __future__ import annotations

from dstack.errors import ConfigProblems
from dstack.language.problems import listing
from dstack.language.resolve import Resolved
from dstack.providers.base import Provider, ResolvedWorkflow
from dstack.providers.bash import Bash
from dstack.providers.python import Python
from dstack.wire.job import Job

BUILT_IN: dict[str, type[Provider]] = {"python": Python, "bash": Bash}


def jobs_for(resolved: Resolved) -> tuple[Job, ...]:
    """The jobs a built-in provider makes. Raises ConfigProblems for a custom one: that runs on a runner."""
    if resolved.provider.is_custom or resolved.provider.name not in BUILT_IN:
        raise ConfigProblems(
            f'{resolved.workflow}.provider: "{resolved.provider.name}" is not built in',
            f"built in are {listing(BUILT_IN)}; a custom provider runs on a runner",
        )
    return tuple(BUILT_IN[resolved.provider.name]().jobs(as_provider_sees(resolved)))


def as_provider_sees(resolved: Resolved) -> ResolvedWorkflow:
    """The part of a resolved workflow that is a provider's business."""
    return ResolvedWorkflow(
        name=resolved.workflow,
        provider=resolved.provider.name,
        options=resolved.options,
        variables=resolved.variables,
        env=resolved.env,
        artifacts=resolved.artifacts,
        resources=resolved.resources,
        secrets=resolved.secrets,
        cache=resolved.cache,
        metrics=resolved.metrics,
        report=resolved.report,
        timeout_s=resolved.timeout_s,
        stop_grace_s=resolved.stop_grace_s,
        retry=resolved.retry,
    )
