"""Reads the job list a custom provider wrote: every field is checked as if a stranger had sent it."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from dstack.errors import ConfigProblems
from dstack.language import words
from dstack.language.job_fields import MAX_CPUS, MAX_GPUS, MAX_RETRIES, RETRY_REASONS, parse_expression
from dstack.language.kinds import BOOLEAN, ENV_KEY, NAME, choice, fixed, whole
from dstack.language.nodes import Items, from_data
from dstack.language.problems import listing, refuse
from dstack.language.quantities import MAX_DURATION_S, MAX_SIZE, Wrong, parse_boolean
from dstack.language.reading import Reading
from dstack.language.records import Field, Record
from dstack.language.resolve import resources_of
from dstack.language.shapes import MAX_SHELL_TEXT, ListOf, MapOf, Shape, Word
from dstack.language.templates import ATTEMPT
from dstack.wire.job import ArtifactSpec, Command, Job, MetricsSpec, PythonSpec, Retry, SaveWhen
from dstack.wire.states import Reason

MAX_JOBS = 256
MAX_CHARACTERS = 4_000_000
MAX_DEPTH = 20
HINT = "the provider's output is a JSON list of jobs; `dstack.Provider` writes it"


def _seconds(low: int = 1) -> Word:
    return whole(low, MAX_DURATION_S)


class _Shell:
    """Shell text, taken as it stands: a provider has filled in what it wanted to."""

    expected = f"a shell text of at most {MAX_SHELL_TEXT:,} characters"

    def read(self, node: Any, reading: Reading, path: str) -> str | None:
        text = getattr(node, "text", "")
        if not text.strip() or len(text) > MAX_SHELL_TEXT or "\0" in text:
            reading.wrong(node, path, self.expected)
            return None
        return str(text)

    def schema(self) -> dict[str, Any]:
        return {"type": "string"}


def _command(values: dict[str, Any]) -> Command:
    argv = values.get("argv", ())
    if bool(argv) == ("shell" in values):
        raise Wrong(message="a command has either shell or argv")
    return Command(values.get("shell"), argv)


def _not_provider(text: str) -> bool:
    if parse_boolean(text):
        raise Wrong(message="a provider's jobs cannot be providers themselves")
    return False


def _job_name(text: str) -> str:
    return words.parse_name(text) if text else ""


_PATH = fixed("a relative path inside the repository", words.parse_path)
_TEXT = Word("text", empty=True, attempt=True, lines=True)
_LINE = fixed("one line of text")


def _many(item: Shape, limit: int = 100) -> ListOf:
    return ListOf(item, lone=False, limit=limit)


_COMMAND = Record(
    (Field("shell", _Shell(), "Shell text."), Field("argv", _many(_TEXT, 1000), "A program and its arguments.")),
    build=_command,
    what="a command",
)
_ARTIFACT = Record(
    (
        Field("path", _PATH, "Relative path or pattern.", required=True),
        Field("when", fixed("success or always", words.member_of(SaveWhen, list(SaveWhen))), "When it is stored."),
    ),
    build=lambda values: ArtifactSpec(**values),
    what="an artifact",
)
_GPU = Record(
    (
        Field("count", whole(0, MAX_GPUS), "How many."),
        Field("name", _LINE, "Name."),
        Field("memory", whole(1, MAX_SIZE), "Bytes of each."),
    ),
    what="GPUs",
)
_RESOURCES = Record(
    (
        Field("gpu", _GPU, "GPUs."),
        Field("cpu", whole(1, MAX_CPUS), "Cores."),
        Field("memory", whole(1, MAX_SIZE), "Bytes."),
        Field("labels", _many(NAME), "Labels of the runner."),
    ),
    build=resources_of,
    what="resources",
)
_METRICS = Record(
    (
        Field("file", _PATH, "Metrics file."),
        Field("log", MapOf(_LINE, fixed("an expression with one group", parse_expression)), "Metrics from the log."),
        Field("headline", _LINE, "The metric shown first."),
        Field("better", choice("higher", "lower"), "Which way it improves."),
    ),
    build=lambda values: MetricsSpec(**values),
    what="metrics",
)
_PYTHON = Record(
    (
        Field("version", fixed("a Python version", words.parse_python), "Version."),
        Field("requirements", _many(_PATH), "Requirement files."),
        Field("packages", _many(_LINE), "Requirement lines."),
    ),
    build=lambda values: PythonSpec(**values),
    what="an environment",
)
_RETRY = Record(
    (
        Field("on", _many(fixed("a reason", words.member_of(Reason, RETRY_REASONS))), "Reasons."),
        Field("limit", whole(0, MAX_RETRIES), "How often."),
    ),
    build=lambda values: Retry(**values),
    what="when to try again",
)
_JOB = Record(
    (
        Field("commands", _many(_COMMAND), "What it runs, in order.", required=True),
        Field("name", Word(NAME.expected, _job_name, template=False, empty=True), "Name; may be empty."),
        Field("env", MapOf(ENV_KEY, _TEXT, limit=1000), "Environment."),
        Field("python", _PYTHON, "Python environment."),
        Field("working_dir", _PATH, "Folder it runs in."),
        Field("artifacts", _many(_ARTIFACT), "What it leaves."),
        Field("resources", _RESOURCES, "What it needs."),
        Field("secrets", _many(ENV_KEY), "Names of secrets."),
        Field("cache", _many(fixed("a folder", words.parse_cache_path)), "Folders kept."),
        Field("metrics", _METRICS, "Final metrics."),
        Field("report", _PATH, "Report file."),
        Field("timeout_s", _seconds(), "Longest time."),
        Field("stop_grace_s", _seconds(), "Time to stop in."),
        Field("retry", _RETRY, "When to try again."),
        Field("expects_jobs", Word(BOOLEAN.expected, _not_provider, template=False), "Always false."),
    ),
    build=lambda values: Job(**values),
    what="a job",
)


def read_jobs(text: str, allowed_secrets: Collection[str] | None = None) -> tuple[Job, ...]:
    """The jobs of a provider's output. `allowed_secrets` are those the workflow names (None: not checked here).

    Raises ConfigProblems with every problem: not a list, none or more than 256 jobs, a field that is not allowed.
    """
    data = _without_nothing(_parsed(text), 0)
    reading = Reading(values={}, context=(ATTEMPT,))
    node = from_data(data, "jobs")
    if not isinstance(node, Items) or not node.items:
        raise ConfigProblems("the provider made no list of jobs", HINT)
    if len(node.items) > MAX_JOBS:
        raise ConfigProblems(f"the provider made {len(node.items):,} jobs; expected at most {MAX_JOBS}", HINT)
    jobs = [_JOB.read(item, reading, f"jobs[{number}]") for number, item in enumerate(node.items)]
    refuse(reading.problems, HINT)
    _check_together(jobs, allowed_secrets)
    return tuple(jobs)


def _check_together(jobs: list[Job], allowed_secrets: Collection[str] | None) -> None:
    names = [job.name for job in jobs if job.name]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigProblems(f"jobs have one name: {listing(twice)}; expected a name each", HINT)
    if any(not job.commands for job in jobs):
        raise ConfigProblems("a job has no commands", HINT)
    asked = {name for job in jobs for name in job.secrets}
    refused = sorted(asked - set(allowed_secrets)) if allowed_secrets is not None else []
    if refused:
        raise ConfigProblems(
            f"the workflow does not name these secrets: {listing(refused)}", "name them under secrets:"
        )


def _parsed(text: str) -> object:
    if len(text) > MAX_CHARACTERS:
        raise ConfigProblems(f"the job list is too large: {len(text):,} characters", f"at most {MAX_CHARACTERS:,}")
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ConfigProblems(f"the provider's output is not JSON: {str(error)[:200]}", HINT) from None


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number of JSON")


def _without_nothing(data: object, depth: int) -> object:
    """The same data without keys that hold null: they mean the default."""
    if depth > MAX_DEPTH:
        raise ConfigProblems("the job list is nested too deep", HINT)
    if isinstance(data, dict):
        return {key: _without_nothing(value, depth + 1) for key, value in data.items() if value is not None}
    if isinstance(data, list):
        return [_without_nothing(item, depth + 1) for item in data]
    return data
