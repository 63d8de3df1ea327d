"""The annotated first files of `.dstack/`, chosen by what lies in the repository; pure."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

_STEPS = (
    ("prepare", ("prepare.py", "prepare_data.py", "preprocess.py", "data.py")),
    ("train", ("train.py", "training.py", "main.py", "fit.py")),
    ("evaluate", ("evaluate.py", "eval.py", "test_model.py")),
)
_FOLDERS = ("", "src/", "scripts/")
_REQUIREMENTS = ("uv.lock", "requirements.txt", "pyproject.toml")

_HEADER = """\
# What runs, and when. Check it without a server: dstack lint; see what would start: dstack plan
# Every workflow starts on a push, unless `on:` says otherwise; by hand: dstack run NAME
"""
_VARIABLES = """\
# Values that workflows use as ${{ name }} and jobs find in their environment in capitals (EPOCHS).
# Set one for a single run: dstack run train --epochs 10
variables:
  global:
    seed: 1
"""


class Step(NamedTuple):
    name: str
    script: str


def starter_files(tracked: Collection[str]) -> dict[str, str]:
    """Path -> text of the starter for a repository with these files."""
    steps = find_steps(tracked)
    if not steps:
        return {".dstack/workflows.yaml": _HEADER + _shell_workflow(tracked), ".dstack/variables.yaml": _VARIABLES}
    needs = ""
    entries = []
    for step in steps:
        entries.append(_python_workflow(step, needs, tracked))
        needs = step.name
    variables = _VARIABLES
    if any(step.name == "train" for step in steps):
        variables += "  train:\n    epochs: 5\n    gpus: 0 # how many GPUs `train` asks for\n"
    return {
        ".dstack/workflows.yaml": _HEADER + "workflows:\n" + "\n".join(entries),
        ".dstack/variables.yaml": variables,
    }


def find_steps(tracked: Collection[str]) -> list[Step]:
    """Scripts and notebooks that look like the usual steps, in their order."""
    steps = []
    for name, scripts in _STEPS:
        choices = [folder + script for script in scripts for folder in _FOLDERS]
        choices += [choice.removesuffix(".py") + ".ipynb" for choice in choices]
        found = next((choice for choice in choices if choice in tracked), None)
        if found:
            steps.append(Step(name, found))
    return steps


def _python_workflow(step: Step, needs: str, tracked: Collection[str]) -> str:
    requirements = next((name for name in _REQUIREMENTS if name in tracked), None)
    lines = [f"  - name: {step.name}", "    provider: python", f"    script: {step.script}"]
    if step.name == "train":
        lines.append(
            "    # args: --epochs ${{ epochs }}        # if the script takes it; EPOCHS is in its environment anyway"
        )
    if requirements:
        lines.append(f"    requirements: {requirements}    # installed once, then kept")
    else:
        lines.append("    # requirements: requirements.txt")
    if needs:
        lines.append(f"    depends-on: [{needs}]    # runs first; `{needs}:latest` takes the tagged result instead")
    lines += _outputs(step.name)
    return "\n".join(lines) + "\n"


def _outputs(step: str) -> list[str]:
    if step == "prepare":
        return ["    artifacts: [data]    # what later workflows find at the same path", "    tag: latest"]
    if step == "train":
        return [
            "    artifacts: [model]",
            "    # metrics: metrics.json             # final metrics; per step: append JSON lines to $DSTACK_METRICS",
            '    resources: {gpu: "${{ gpus }}"}',
        ]
    return ["    # metrics: metrics.json", "    # report: report.md"]


def _shell_workflow(tracked: Collection[str]) -> str:
    command = "make" if "Makefile" in tracked else "echo hello from ${{ branch }}"
    return (
        "workflows:\n  - name: hello\n    provider: bash    # or python, with `script: train.py`\n"
        f"    commands:\n      - {command}\n"
        "    # artifacts: [model]                # folders and files to keep\n"
    )
