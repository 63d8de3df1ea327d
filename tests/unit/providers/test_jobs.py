"""The jobs that built-in providers make, and the short job of a custom one."""

from __future__ import annotations

import json

import pytest

from dstack.errors import ConfigProblems
from dstack.language import FILES, Context, Resolved, read_project, resolve
from dstack.language.workflow import ProviderDefinition
from dstack.providers import ad_hoc, jobs_for, provider_job, read_jobs, secrets_it_may_pass_on
from dstack.providers.exchange import dump_jobs, load_workflow
from dstack.providers.python import NOTEBOOK_PACKAGES
from dstack.wire.codec import decode, encode
from dstack.wire.job import ArtifactSpec, Command, Gpu, Job, MetricsSpec, PythonSpec, Resources, Retry, SaveWhen
from dstack.wire.states import Reason

RUN = Context("n-1", "o/r", "a" * 40, "main", "push")


def resolved(entry: str, variables: str = "", providers: str = "") -> Resolved:
    files = {FILES[0]: f"workflows:\n  - {entry}\n", FILES[1]: variables, FILES[2]: providers}
    project = read_project({name: text.encode() for name, text in files.items() if text})
    assert not project.problems, project.problems
    return resolve(next(iter(project.workflows.values())), {}, RUN)


def job_of(entry: str, variables: str = "") -> Job:
    (job,) = jobs_for(resolved(entry, variables))
    return job


@pytest.mark.parametrize(
    ("options", "argv"),
    [
        ("script: train.py", ("python", "train.py")),
        ("script: ./-odd.py", ("python", "./-odd.py")),
        ("module: pkg.train", ("python", "-m", "pkg.train")),
        ("module: m, args: --a 'b c'", ("python", "-m", "m", "--a", "b c")),
        ("script: t.py, args: [--a, 1, '']", ("python", "t.py", "--a", "1", "")),
    ],
)
def test_python_runs_a_script_or_a_module(options: str, argv: tuple[str, ...]) -> None:
    job = job_of(f"{{name: a, provider: python, {options}}}")
    assert job.commands == (Command(argv=argv),)
    assert job.python == PythonSpec()


def test_python_installs_what_is_asked_for_and_runs_commands_before() -> None:
    job = job_of(
        "{name: a, provider: python, script: t.py, version: 3.11, requirements: [r.txt, pyproject.toml],"
        " before-run: [make data, ls], working_dir: src/}"
    )
    assert job.commands == (Command(shell="make data"), Command(shell="ls"), Command(argv=("python", "t.py")))
    assert job.python == PythonSpec("3.11", ("r.txt", "pyproject.toml"))
    assert job.working_dir == "src"


def test_a_notebook_is_run_by_papermill_into_a_file_of_its_own() -> None:
    job = job_of("{name: a, provider: python, script: n.ipynb, args: -p epochs 3}")
    (command,) = job.commands
    assert command.argv[:3] == ("python", "-m", "papermill")
    assert command.argv[-5:] == ("n.ipynb", "n.executed.ipynb", "-p", "epochs", "3")
    assert job.python is not None and job.python.packages == NOTEBOOK_PACKAGES


def test_bash_runs_commands_and_makes_no_environment() -> None:
    job = job_of("{name: a, provider: bash, commands: [ls, pwd], working-dir: x}")
    assert job.commands == (Command(shell="ls"), Command(shell="pwd"))
    assert (job.python, job.working_dir) == (None, "x")


def test_a_job_has_all_the_common_keys() -> None:
    entry = (
        "{name: a, provider: bash, commands: x, env: {K: v}, secrets: [S], cache: [~/.c], report: r.md, timeout: 1h,"
        " stop-grace: 5s, retry: {on: exit_code, limit: 1}, artifacts: [{path: m, when: always}],"
        " metrics: {file: m.json, log: {l: 'x(.)'}, headline: h, better: lower},"
        " resources: {gpu: 'A100:40GB:2', cpu: 4, memory: 8GB, labels: [lab]}}"
    )
    assert job_of(entry, "variables: {a: {batch-size: 8}}") == Job(
        commands=(Command(shell="x"),),
        name="a",
        env={"BATCH_SIZE": "8", "K": "v"},
        artifacts=(ArtifactSpec("m", SaveWhen.ALWAYS),),
        resources=Resources(Gpu(2, "A100", 40 * 2**30), 4, 8 * 2**30, ("lab",)),
        secrets=("S",),
        cache=("~/.c",),
        metrics=MetricsSpec("m.json", {"l": "x(.)"}, "h", "lower"),
        report="r.md",
        timeout_s=3600,
        stop_grace_s=5,
        retry=Retry((Reason.EXIT_CODE,), 1),
    )


def test_jobs_cross_the_wire_unchanged() -> None:
    job = job_of("{name: a, provider: python, script: t.py, artifacts: [m], metrics: m.json, resources: {gpu: 1}}")
    assert decode(Job, encode(job)) == job
    assert read_jobs(dump_jobs([job])) == (job,)


def test_the_environment_of_a_workflow_hides_its_variables() -> None:
    job = job_of("{name: a, provider: bash, commands: x, env: {LR: own}}", "variables: {a: {lr: 1}}")
    assert job.env == {"LR": "own"}


GRID = "providers: [{name: grid, module: 'm.grid:Grid', requirements: p.txt, version: '3.12'}]"


def test_a_custom_provider_runs_as_a_short_job_without_gpus_and_secrets() -> None:
    workflow = resolved(
        "{name: a, provider: grid, rates: ['${{ lr }}'], secrets: [S], resources: {gpu: 8}, artifacts: [m]}",
        "variables: {global: {lr: 1e-3}}",
        GRID,
    )
    with pytest.raises(ConfigProblems, match="not built in"):
        jobs_for(workflow)
    definition = ProviderDefinition("grid", module="m.grid:Grid", requirements=("p.txt",), version="3.12")
    job = provider_job(workflow, definition, wheel="dstack-ci @ http://server/wheel.whl")
    assert job.commands == (Command(argv=("python", "-m", "dstack.providers.run", "m.grid:Grid")),)
    assert job.python == PythonSpec("3.12", ("p.txt",), ("dstack-ci @ http://server/wheel.whl",))
    assert (job.resources, job.secrets, job.expects_jobs, job.artifacts) == (Resources(), (), True, ())
    assert job.timeout_s == 600
    seen = load_workflow(job.env["DSTACK_WORKFLOW_JSON"])
    assert seen.options == {"rates": ["1e-3"]} and seen.resources.gpu.count == 8
    assert seen.artifacts == (ArtifactSpec("m"),)
    assert secrets_it_may_pass_on(job) == ("S",)


def test_a_custom_provider_may_be_shell_commands() -> None:
    workflow = resolved("{name: a, provider: g}", providers="providers: [{name: g, commands: [./make.sh]}]")
    job = provider_job(workflow, ProviderDefinition("g", commands=("./make.sh",)))
    assert job.commands == (Command(shell="./make.sh"),) and job.python == PythonSpec()


def test_a_workflow_too_large_for_an_environment_variable_is_refused() -> None:
    entry = f"{{name: a, provider: g, x: ['{'y' * 9000}'" + f", '{'z' * 9000}'" * 11 + "]}"
    workflow = resolved(entry, providers=GRID.replace("grid,", "g,"))
    with pytest.raises(ConfigProblems, match="too large for a custom provider"):
        provider_job(workflow, ProviderDefinition("g", commands=("x",)))


def test_a_provider_runs_without_an_entry() -> None:
    options = {
        "script": "train.py", "args": ["--epochs", "3", "--name", "a b"], "requirements": ["r.txt"],
        "artifacts": ["model"], "gpu": 1, "memory": "8GB", "env": {"K": "V"}, "timeout": "1h",
    }  # fmt: skip
    workflow = ad_hoc("python", options)
    assert (workflow.name, workflow.triggers.push, workflow.variables) == ("python", None, {})
    (job,) = jobs_for(resolve(workflow, {}, RUN))
    assert job.commands == (Command(argv=("python", "train.py", "--epochs", "3", "--name", "a b")),)
    assert job.resources == Resources(Gpu(1), memory=8 * 2**30)
    assert (job.env, job.timeout_s, job.artifacts) == ({"K": "V"}, 3600, (ArtifactSpec("model"),))


@pytest.mark.parametrize(
    ("provider", "options", "words"),
    [
        ("pyton", {"script": "x"}, "no provider"),
        ("python", {}, '"script" (or "module") is missing'),
        ("python", {"script": "/etc/passwd"}, "inside the repository"),
        ("python", {"script": "x.py", "gpu": "many"}, "resources.gpu"),
        ("python", {"script": "x.py", "scirpt": "y"}, 'did you mean "script"?'),
        ("python", {"script": "x.py", "env": {"LD_PRELOAD": "x"}}, "reserved"),
        ("python", {"script": "x.py", "args": "${{ lr }}"}, "no variable"),
        ("python", {"script": "x.py", "args": [object()]}, "no place in a workflow"),
        ("bash", {"script": "x"}, "unknown key"),
        ("bash", {"commands": [" "]}, "a shell command"),
    ],
)
def test_what_a_command_line_gets_wrong_is_told(provider: str, options: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigProblems) as raised:
        ad_hoc(provider, options)
    assert words in raised.value.message and json.dumps(raised.value.message)


def test_at_files_stay_literal() -> None:
    (job,) = jobs_for(resolve(ad_hoc("python", {"script": "x.py", "args": ["@/etc/passwd"]}), {}, RUN))
    assert job.commands[0].argv[-1] == "@/etc/passwd"
