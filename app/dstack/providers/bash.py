"""The `bash` provider: shell commands as they stand."""

from __future__ import annotations

from dstack.providers.base import Provider, ResolvedWorkflow
from dstack.wire.job import Command, Job


class Bash(Provider):
    """Options: commands, working-dir."""

    def jobs(self, workflow: ResolvedWorkflow) -> list[Job]:
        commands = [Command(shell=text) for text in workflow.options["commands"]]
        return [workflow.job(commands, working_dir=workflow.options.get("working-dir", "."))]
