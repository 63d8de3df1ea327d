"""Custom providers as their authors write them, run as their job runs them: a real process, JSON in, JSON out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dstack import Command, Job, Provider, Resources
from dstack.language import FILES, Context, read_project, resolve
from dstack.providers import provider_job, read_jobs
from dstack.providers.base import ResolvedWorkflow

GRID = """
from dstack import Command, Gpu, Job, Provider, Resources

class Base(Provider):
    pass

class Grid(Base):
    def jobs(self, workflow):
        if "rates" not in workflow.options:
            raise ValueError("rates is missing")
        return [
            workflow.job([Command(argv=("python", "train.py", "--lr", rate))], name=f"lr-{n}", env={"N": str(n)},
                         resources=Resources(gpu=Gpu(count=1)))
            for n, rate in enumerate(workflow.options["rates"])
        ]
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "grid.py").write_text(GRID)
    (tmp_path / "one.py").write_text("from dstack import Provider\nclass One(Provider):\n    pass\n")
    return tmp_path


def run(checkout: Path, name: str, workflow: str, output: Path | None = None) -> subprocess.CompletedProcess[str]:
    env = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
    env |= {"DSTACK_WORKFLOW_JSON": workflow} | ({"DSTACK_OUTPUT": str(output)} if output else {})
    argv = [sys.executable, "-m", "dstack.providers.run", name]
    return subprocess.run(argv, cwd=checkout, env=env, capture_output=True, text=True, timeout=60)


def workflow_json(entry: str) -> str:
    files = {
        FILES[0]: f"workflows:\n  - {entry}\n".encode(),
        FILES[1]: b"variables: {global: {lr: 1e-3}}",
        FILES[2]: b"providers: [{name: grid, module: 'grid:Grid'}]",
    }
    project = read_project(files)
    assert not project.problems, project.problems
    resolved = resolve(project.workflows["a"], {}, Context("n", "o/r", "s", "main", "push"))
    return provider_job(resolved, project.providers["grid"]).env["DSTACK_WORKFLOW_JSON"]


def test_a_provider_of_the_repository_makes_jobs(checkout: Path) -> None:
    output = checkout / "jobs.json"
    text = workflow_json("{name: a, provider: grid, rates: ['${{ lr }}', '$(id); é'], artifacts: [m], timeout: 1h}")
    done = run(checkout, "grid:Grid", text, output)
    assert done.returncode == 0, done.stderr
    first, second = read_jobs(output.read_text(encoding="utf-8"))
    assert first.commands == (Command(argv=("python", "train.py", "--lr", "1e-3")),)
    assert second.commands[0].argv[-1] == "$(id); é"
    assert (first.name, second.name, second.env["N"], second.env["LR"]) == ("lr-0", "lr-1", "1", "1e-3")
    assert first.timeout_s == 3600 and first.resources.gpu.count == 1 and first.artifacts[0].path == "m"


def test_without_an_output_file_the_list_is_printed(checkout: Path) -> None:
    done = run(checkout, "grid:Grid", workflow_json("{name: a, provider: grid, rates: ['1']}"))
    assert len(json.loads(done.stdout)) == 1


@pytest.mark.parametrize(
    ("name", "workflow", "code", "words"),
    [
        ("grid:Grid", "{name: a, provider: grid}", 1, "grid:Grid: rates is missing"),
        ("grid", "{name: a, provider: grid}", 2, "grid has: Base, Grid"),
        ("grid:Grit", "{name: a, provider: grid}", 2, "write module:Class"),
        ("nowhere", "{name: a, provider: grid}", 2, "cannot import nowhere"),
        ("one", "{name: a, provider: grid}", 1, "One has no method jobs"),
        ("grid:Grid", "", 1, "Expecting value"),
    ],
)
def test_what_goes_wrong_is_said_without_a_traceback(
    checkout: Path, name: str, workflow: str, code: int, words: str
) -> None:
    done = run(checkout, name, workflow_json(workflow) if workflow else " ")
    assert done.returncode == code and words in done.stderr and "Traceback" not in done.stderr, done.stderr


def test_the_public_names_need_the_standard_library_alone() -> None:
    program = (
        "import sys; before = set(sys.modules); from dstack import Provider, Job, Resources, Gpu;"
        "print(sorted({m.split('.')[0] for m in set(sys.modules) - before} - set(sys.stdlib_module_names)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['dstack']"


def test_a_workflow_makes_jobs_of_itself() -> None:
    workflow = ResolvedWorkflow("w", "p", env={"A": "1", "B": "2"}, secrets=("S",), timeout_s=5)
    job = workflow.job([Command(shell="ls")], env={"B": "3"}, resources=Resources(cpu=2))
    assert job == Job(
        (Command(shell="ls"),), "w", {"A": "1", "B": "3"}, resources=Resources(cpu=2), secrets=("S",), timeout_s=5
    )
    with pytest.raises(NotImplementedError, match="Provider has no method jobs"):
        Provider().jobs(workflow)
