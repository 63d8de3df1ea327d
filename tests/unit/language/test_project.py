"""What a good `.dstack/` is read as."""

from __future__ import annotations

import pytest

from dstack.errors import ConfigProblems
from dstack.language import FILES, Context, Dependency, Project, ProviderRef, close_over_needs, read_project, resolve
from dstack.wire.job import ArtifactSpec, Gpu, MetricsSpec, Resources, Retry, SaveWhen
from dstack.wire.states import Reason

WORKFLOWS, VARIABLES, PROVIDERS = FILES
RUN = Context("brave-otter-17", "team/digits", "a" * 40, "main", "push")

DESIGN = r"""
workflows:
  - name: prepare
    provider: python
    python_script: prepare.py          # also spelled script: or file:
    artifacts: [data]
    tag: latest
    resources:
      gpu: ${{ pgpu }}
  - name: train
    help: Train the classifier
    provider: python
    python_script: train.py
    args: --epochs ${{ epochs }} --lr ${{ lr }}
    requirements: requirements.txt     # or pyproject.toml / uv.lock
    env: {PYTHONPATH: src}             # also spelled environment:
    secrets: [WANDB_API_KEY]
    cache: [~/.cache/huggingface]
    paths: ["src/**", train.py, requirements.txt]
    depends-on: [prepare:latest]
    artifacts: [checkpoint, {path: "logs/*.csv", when: always}]
    metrics: {file: metrics.json, headline: accuracy, better: higher}
    report: report.md
    gate: accuracy >= base - 0.01      # base["val/loss"] names another metric
    resources: {gpu: "${{ tgpu }}", memory: 16GB}
    timeout: 2d
    stop-grace: 10m
    retry: {on: [runner_lost, preempted], limit: 3}
    on:
      push: {branches: [main]}
      pull_request: {branches: [main]}
      comment: /train
      schedule: {cron: "0 3 * * 1", timezone: Europe/Berlin, missed: run-latest}
      tag-moved: prepare:latest
      event: drift
"""
DESIGN_VARIABLES = "variables:\n  global: {lr: 0.01}\n  prepare: {pgpu: 0}\n  train: {tgpu: 0, epochs: 5}\n"


def project_of(workflows: str, variables: str = "", providers: str = "") -> Project:
    files = {WORKFLOWS: workflows.encode(), VARIABLES: variables.encode(), PROVIDERS: providers.encode()}
    project = read_project({name: data for name, data in files.items() if data})
    assert project.problems == (), "\n".join(map(str, project.problems))
    return project


def bash(keys: str = "", variables: str = "") -> Project:
    head = "workflows:\n  - name: a\n    provider: bash\n    commands: ls\n"
    return project_of(head + "".join(f"    {line}\n" for line in keys.splitlines()), variables)


def test_the_example_of_the_design_is_read_word_for_word() -> None:
    project = project_of(DESIGN, DESIGN_VARIABLES)
    train = project.workflows["train"]
    assert train.provider == ProviderRef("python")
    assert train.help == "Train the classifier"
    assert train.options["args"] == ("--epochs", "${{ epochs }}", "--lr", "${{ lr }}")
    assert train.depends_on == (Dependency("prepare", "latest"),)
    assert train.artifacts == (ArtifactSpec("checkpoint"), ArtifactSpec("logs/*.csv", SaveWhen.ALWAYS))
    assert train.metrics == MetricsSpec("metrics.json", headline="accuracy", better="higher")
    assert train.variables == {"lr": "0.01", "tgpu": "0", "epochs": "5"}
    assert (train.timeout, train.stop_grace) == (172_800, 600)
    assert train.triggers.tag_moved == (Dependency("prepare", "latest"),)
    assert train.triggers.schedule[0].timezone == "Europe/Berlin"
    assert project.workflows["prepare"].resources == {"gpu": "${{ pgpu }}"}
    unused = {f"train.on.{key}" for key in ("pull_request", "comment", "schedule", "event")}
    assert {w.message.split(":")[0] for w in project.warnings} <= unused


def test_a_variable_is_chosen_for_one_run() -> None:
    project = project_of(DESIGN, DESIGN_VARIABLES)
    resolved = resolve(project.workflows["prepare"], {"pgpu": "4"}, RUN)
    assert resolved.resources == Resources(gpu=Gpu(count=4))
    assert resolved.variables == {"lr": "0.01", "pgpu": "4"}
    assert resolved.env == {"LR": "0.01", "PGPU": "4"}
    train = resolve(project.workflows["train"], {"LR": "3e-4; rm -rf /"}, RUN)
    assert train.options["args"] == ("--epochs", "5", "--lr", "3e-4; rm -rf /")
    assert train.resources == Resources(memory=16 * 2**30)
    assert train.retry == Retry((Reason.RUNNER_LOST, Reason.PREEMPTED), 3)


def test_values_that_do_not_fit_name_the_place_and_the_value() -> None:
    project = project_of(DESIGN, DESIGN_VARIABLES)
    with pytest.raises(ConfigProblems) as raised:
        resolve(project.workflows["prepare"], {"pgpu": "four"}, RUN)
    place = f"{WORKFLOWS}:9:12: prepare.resources.gpu"
    assert raised.value.message.startswith(f'{place}: found "${{{{ pgpu }}}}", filled in "four"')
    with pytest.raises(
        ConfigProblems, match=r'prepare has no variable "pgpo"; expected one of lr, pgpu; did you mean "pgpu"'
    ):
        resolve(project.workflows["prepare"], {"pgpo": "1", "pgpu": "2"}, RUN)
    with pytest.raises(ConfigProblems, match="NUL"):
        resolve(project.workflows["prepare"], {"lr": "\0"}, RUN)


def test_scalars_keep_the_spelling_of_the_file() -> None:
    written = {
        "a": "1e-3", "b": "1.10", "c": "0777", "d": "1:30", "e": "no", "f": "2024-01-01", "g": "'null'", "h": "0x1F",
        "i": "1_000",
    }  # fmt: skip
    text = "variables:\n  global:\n" + "".join(f"    {key}: {value}\n" for key, value in written.items())
    project = bash("on: push\nenv: {ON: on, OFF: no}", text)
    expected = {key: value.strip("'") for key, value in written.items()}
    assert project.workflows["a"].variables == expected
    assert resolve(project.workflows["a"], {}, RUN).env["D"] == "1:30"
    assert resolve(project.workflows["a"], {}, RUN).env["OFF"] == "no"


def test_a_workflows_own_variable_hides_the_global_one_in_either_spelling() -> None:
    project = bash("", "variables:\n  global: {batch_size: 8, lr: 1}\n  a: {batch-size: 16}\n")
    assert project.workflows["a"].variables == {"lr": "1", "batch-size": "16"}
    resolved = resolve(project.workflows["a"], {"batch_size": "32"}, RUN)
    assert resolved.env == {"LR": "1", "BATCH_SIZE": "32"}
    assert resolved.variables == {"lr": "1", "batch-size": "32"}


def test_variables_may_name_others_but_what_is_given_is_literal() -> None:
    project = bash(
        "env: {NAME: '${{ name }}'}", "variables: {global: {name: '${{ size }}-${{ branch }}', size: small}}"
    )
    workflow = project.workflows["a"]
    assert resolve(workflow, {}, RUN).env["NAME"] == "small-main"
    assert resolve(workflow, {"size": "${{ sha }}"}, RUN).env["NAME"] == "${{ sha }}-main"
    assert resolve(workflow, {"name": "${{ nobody }}"}, RUN).env["NAME"] == "${{ nobody }}"


def test_every_name_of_an_expression_is_filled_in() -> None:
    names = ("run.name", "repo", "sha", "branch", "trigger", "schedule.time")
    keys = "env: {" + ", ".join(f"K{n}: '${{{{{name}}}}}'" for n, name in enumerate(names)) + "}"
    context = Context("n", "o/r", "s", "$(touch x)", "schedule", "2026-01-01T00:00:00Z")
    env = resolve(bash(keys).workflows["a"], {}, context).env
    assert [env[f"K{n}"] for n in range(6)] == ["n", "o/r", "s", "$(touch x)", "schedule", "2026-01-01T00:00:00Z"]


def test_spellings_of_keys_are_one() -> None:
    for key in ("script", "python_script", "python-script", "file"):
        project = project_of(f"workflows: [{{name: a, provider: python, {key}: ./x/t.py}}]")
        assert project.workflows["a"].options == {"script": "x/t.py"}
    assert bash("environment: {A: b}").workflows["a"].env == {"A": "b"}
    assert bash("stop_grace: 1m").workflows["a"].stop_grace == 60


@pytest.mark.parametrize(
    ("written", "gpu"),
    [
        ("1", Gpu(1)),
        ("0", Gpu(0)),
        ("A100", Gpu(1, "A100")),
        ("A100:2", Gpu(2, "A100")),
        ("A100:40GB:2", Gpu(2, "A100", 40 * 2**30)),
        ("RTX 4090:1", Gpu(1, "RTX 4090")),
        ("{name: A100, memory: 40GB, count: 2}", Gpu(2, "A100", 40 * 2**30)),
        ("{memory: 24 GiB}", Gpu(1, None, 24 * 2**30)),
    ],
)
def test_gpus_are_a_number_a_line_or_a_mapping(written: str, gpu: Gpu) -> None:
    workflow = bash(f"resources: {{gpu: {written}}}").workflows["a"]
    assert resolve(workflow, {}, RUN).resources.gpu == gpu


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("90s", 90), ("10m", 600), ("1h30m", 5400), ("1d 2h", 93_600), ("2d", 172_800), ("366d", 366 * 86_400)],
)
def test_times_are_read_in_seconds(written: str, seconds: int) -> None:
    workflow = bash(f"timeout: {written}\nstop-grace: {written}").workflows["a"]
    resolved = resolve(workflow, {}, RUN)
    assert (resolved.timeout_s, resolved.stop_grace_s) == (seconds, seconds)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("prepare", Dependency("prepare")),
        ("prepare:latest", Dependency("prepare", "latest")),
        ("'prepare:latest?'", Dependency("prepare", "latest", optional=True)),
        ("team/data/corpus:v1.2", Dependency("corpus", "v1.2", "team/data")),
        ("{from: prepare:latest, copy: true}", Dependency("prepare", "latest", copy=True)),
        ("{from: prepare:latest, optional: true}", Dependency("prepare", "latest", optional=True)),
    ],
)
def test_dependencies_name_a_workflow_or_a_tag(written: str, expected: Dependency) -> None:
    prepare = "workflows:\n  - {name: prepare, provider: bash, commands: ls}\n"
    entry = f"  - name: a\n    provider: bash\n    commands: ls\n    depends-on: [{written}]\n"
    workflow = project_of(prepare + entry).workflows["a"]
    assert workflow.depends_on == (expected,)
    assert workflow.needs == (() if expected.tag else ("prepare",))


def test_a_start_pulls_in_what_it_needs_in_order() -> None:
    text = """
workflows:
  - {name: report, provider: bash, commands: ls, depends-on: [evaluate, train]}
  - {name: evaluate, provider: bash, commands: ls, depends-on: [train]}
  - {name: train, provider: bash, commands: ls, depends-on: [prepare, 'other:latest']}
  - {name: prepare, provider: bash, commands: ls}
  - {name: other, provider: bash, commands: ls}
"""
    project = project_of(text)
    assert close_over_needs(project, ["report"]) == ("prepare", "train", "evaluate", "report")
    assert close_over_needs(project, ["other", "train"]) == ("other", "prepare", "train") or close_over_needs(
        project, ["other", "train"]
    ) == ("prepare", "other", "train")
    assert close_over_needs(project, []) == ()


def test_custom_providers_keep_their_options_as_text() -> None:
    text = "workflows: [{name: a, provider: grid, rates: [1e-3, '${{ lr }}'], deep: {on: yes, none: }, timeout: 1h}]"
    project = project_of(text, "variables: {global: {lr: 5}}", "providers: [{name: grid, module: 'm.grid:Grid'}]")
    resolved = resolve(project.workflows["a"], {"lr": "7"}, RUN)
    assert resolved.options == {"rates": ["1e-3", "7"], "deep": {"on": "yes", "none": None}}
    assert resolved.timeout_s == 3600 and resolved.provider.is_custom
    assert project.providers["grid"].module == "m.grid:Grid"


def test_an_unknown_workflow_is_answered_with_the_nearest() -> None:
    project = bash()
    with pytest.raises(ConfigProblems) as raised:
        project.workflow("aa")
    assert raised.value.hint == 'did you mean "a"?'


def test_warnings_name_what_is_allowed_but_hardly_meant() -> None:
    project = project_of(
        "workflows:\n"
        "  - {name: python, provider: bash, commands: ls, paths: ['!docs/**']}\n"
        "  - {name: b, provider: bash, commands: ls, paths: [src/]}\n"
        "  - {name: c, provider: grid, artefacts: [x]}\n",
        providers="providers: [{name: grid, module: m}]",
    )
    words = [str(warning) for warning in project.warnings]
    assert any("named like a provider" in word for word in words)
    assert any("only patterns with !" in word for word in words)
    assert any('write "src/**"' in word for word in words)
    assert any('did you mean "artifacts"?' in word for word in words)
