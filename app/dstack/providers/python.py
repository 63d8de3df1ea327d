"""The `python` provider: a script, module or notebook in an environment with its requirements."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dstack.providers.base import Provider, ResolvedWorkflow
from dstack.wire.job import Command, Job, PythonSpec

# papermill writes the output of cells to the log as they run, and takes `-p name value` as arguments.
NOTEBOOK_PACKAGES = ("papermill>=2.6", "ipykernel>=6")


class Python(Provider):
    """Options: script or module, args, version, requirements, before-run, working-dir."""

    def jobs(self, workflow: ResolvedWorkflow) -> list[Job]:
        options = workflow.options
        before = [Command(shell=text) for text in options.get("before-run", ())]
        script = options.get("script", "")
        spec = PythonSpec(
            version=options.get("version"),
            requirements=tuple(options.get("requirements", ())),
            packages=NOTEBOOK_PACKAGES if is_notebook(script) else (),
        )
        return [
            workflow.job(
                [*before, Command(argv=(*program(options), *options.get("args", ())))],
                python=spec,
                working_dir=options.get("working-dir", "."),
            )
        ]


def is_notebook(script: str) -> bool:
    return script.endswith(".ipynb")


def program(options: Mapping[str, Any]) -> tuple[str, ...]:
    """The command that runs what the options name. A run of `x.ipynb` is written to `x.executed.ipynb`: the notebook
    itself is tracked by Git, and such files are no artifacts."""
    if "module" in options:
        return ("python", "-m", options["module"])
    script = options["script"]
    if is_notebook(script):
        executed = script.removesuffix(".ipynb") + ".executed.ipynb"
        flags = ("--log-output", "--no-progress-bar", "--kernel", "python3")
        return ("python", "-m", "papermill", *flags, script, executed)
    return ("python", script)
