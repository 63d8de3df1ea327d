"""The short job that runs a custom provider on a runner; reading its output is left to `job_list.py`."""

from __future__ import annotations

from dstack.errors import ConfigProblems
from dstack.language.resolve import Resolved
from dstack.language.workflow import ProviderDefinition
from dstack.providers.exchange import WORKFLOW_ENV, dump_workflow, load_workflow
from dstack.providers.registry import as_provider_sees
from dstack.wire.job import Command, Job, PythonSpec

TIMEOUT_S = 600
MAX_WORKFLOW = 100_000  # characters; one environment variable holds at most 128 KiB on Linux


def provider_job(resolved: Resolved, definition: ProviderDefinition, wheel: str = "") -> Job:
    """The job whose output is the job list: no GPUs, no secrets, ten minutes.

    `wheel` is a requirement line for this very version of dstack, which the server serves to its runners.
    Raises ConfigProblems when the workflow does not fit in an environment variable.
    """
    workflow = dump_workflow(as_provider_sees(resolved))
    if len(workflow.encode()) > MAX_WORKFLOW:
        raise ConfigProblems(
            f"{resolved.workflow}: the workflow is too large for a custom provider ({len(workflow):,} characters)",
            f"it may have {MAX_WORKFLOW:,} with its variables filled in; put long values into a file",
        )
    return Job(
        commands=_commands(definition),
        name=f"provider-{definition.name}",
        env={**resolved.env, WORKFLOW_ENV: workflow},
        python=PythonSpec(definition.version, definition.requirements, (wheel,) if wheel else ()),
        timeout_s=TIMEOUT_S,
        expects_jobs=True,
    )


def secrets_it_may_pass_on(job: Job) -> tuple[str, ...]:
    """The secrets the workflow of a provider's job names: those `read_jobs` may let its jobs have."""
    return load_workflow(job.env[WORKFLOW_ENV]).secrets


def _commands(definition: ProviderDefinition) -> tuple[Command, ...]:
    if definition.module:
        return (Command(argv=("python", "-m", "dstack.providers.run", definition.module)),)
    return tuple(Command(shell=text) for text in definition.commands)
