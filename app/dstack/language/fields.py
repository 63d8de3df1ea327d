"""The keys every workflow has, each with its shape and a line of help: loader and JSON Schema both come from here."""

from __future__ import annotations

from typing import Any

from dstack.language import words
from dstack.language.dependencies import EXPECTED as DEPENDENCY
from dstack.language.dependencies import parse_dependency
from dstack.language.gates import check_gate
from dstack.language.job_fields import ARTIFACT, METRICS, RESOURCES, RETRY
from dstack.language.kinds import BOOLEAN, DURATION, ENV_KEY, ENV_VALUE, GLOB, NAME, PATH, TEXT, choice, fixed
from dstack.language.quantities import Wrong
from dstack.language.records import Field, Record
from dstack.language.shapes import ByKind, ListOf, MapOf, Word
from dstack.language.trigger_fields import ON
from dstack.language.workflow import NOTIFY_ON, Concurrency, Dependency, Notify, ProviderRef


def _dependency_of(values: dict[str, Any]) -> Dependency:
    named: Dependency = values["from"]
    optional = named.optional or values.get("optional", False)
    if optional and not named.tag:
        raise Wrong(f'name a tag: "{named.workflow}:latest"', "only a tag can be optional")
    return Dependency(named.workflow, named.tag, named.repo, optional, values.get("copy", False))


DEPENDS_ON = ListOf(
    ByKind(
        scalar=Word(DEPENDENCY, parse_dependency, template=False),
        table=Record(
            (
                Field(
                    "from", Word(DEPENDENCY, parse_dependency, template=False), "The workflow or tag.", required=True
                ),
                Field("optional", BOOLEAN, "Go on without it while the tag does not exist; as a `?` after the tag."),
                Field("copy", BOOLEAN, "Give the job a copy of its own that it may write to."),
            ),
            build=_dependency_of,
            what="a dependency",
        ),
    )
)

PROVIDER = ByKind(
    scalar=Word("the name of a provider, such as python or bash", lambda text: ProviderRef(words.parse_name(text)),
                template=False),
    table=Record(
        (
            Field("repo", fixed("owner/name", words.parse_repo), "Repository that defines it.", required=True),
            Field("ref", fixed("a branch, tag or commit", words.parse_ref), "Branch, tag or commit.", required=True),
            Field("name", NAME, "Name in its .dstack/providers.yaml.", required=True),
        ),
        build=lambda values: ProviderRef(values["name"], values["repo"], values["ref"]),
        what="a provider of another repository",
    ),
)  # fmt: skip

CONCURRENCY = ByKind(
    scalar=Word("the name of a concurrency group", lambda text: Concurrency(text)),
    table=Record(
        (
            Field(
                "group",
                Word("the name of a concurrency group"),
                "Runs of one group supersede each other.",
                required=True,
            ),
            Field("cancel-running", BOOLEAN, "Stop also what runs already."),
        ),
        build=lambda values: Concurrency(values["group"], values.get("cancel-running", False)),
        what="a concurrency group",
    ),
)


def _notify_of(values: dict[str, Any]) -> Notify:
    if ("secret" in values) == ("url" in values):
        raise Wrong("secret: the name of a secret that holds the address", "give one of secret and url")
    return Notify(**values)


def _parse_notify(text: str) -> Notify:
    """A secret's name, or an address. Raises Wrong."""
    return Notify(url=words.parse_web_address(text)) if "://" in text else Notify(secret=words.parse_env_key(text))


NOTIFY = ByKind(
    scalar=fixed("the name of a secret that holds a web address", _parse_notify),
    table=Record(
        (
            Field("secret", ENV_KEY, "Name of the secret that holds the address."),
            Field("url", fixed("an https address", words.parse_web_address), "The address itself; all can read it."),
            Field("on", ListOf(choice(*NOTIFY_ON)), "Which ends are told; failed and recovered where it is left out."),
            Field("format", choice("slack", "json"), "Slack's form, or the run as JSON."),
        ),
        build=_notify_of,
        what="whom to tell",
    ),
)

COMMON = (
    Field("name", NAME, "Name of the workflow: `dstack run NAME`.", required=True),
    Field("help", TEXT, "One line that `dstack run NAME --help` and the pages show."),
    Field("provider", PROVIDER, "What turns the workflow into jobs.", required=True),
    Field("depends-on", DEPENDS_ON, "Workflows run first (`prepare`), tags to take artifacts from (`prepare:latest`)."),
    Field("artifacts", ListOf(ARTIFACT), "What a job leaves: folders, files or patterns that are stored after it."),
    Field("metrics", METRICS, "Where the final metrics come from."),
    Field("report", PATH, "A Markdown file that is shown with the run."),
    Field("gate", Word("a condition such as accuracy >= base - 0.01", check_gate, template=False),
          "A condition on metrics, against those of the base: its outcome is the run's verdict."),
    Field("resources", RESOURCES, "What the machine must have free."),
    Field("env", MapOf(ENV_KEY, ENV_VALUE, what="environment variables"),
          "Environment variables of the job.", ("environment",)),
    Field("secrets", ListOf(ENV_KEY), "Names of secrets that reach the job as environment variables."),
    Field("cache", ListOf(Word("a folder, relative or below ~/", words.parse_cache_path, template=False)),
          "Folders kept between jobs of this repository on a runner."),
    Field("paths", ListOf(GLOB, limit=200), "What the workflow reads: only pushes that change one of these start it."),
    Field("tag", NAME, "Tag put on the run when it succeeds on the default branch."),
    Field("timeout", DURATION, "Longest time its commands may take."),
    Field("stop-grace", DURATION, "Time between asking a job to stop (TERM) and forcing it (KILL); else 10s."),
    Field("retry", RETRY, "When a job goes back to the queue by itself, and how often."),
    Field("on", ON, "When the workflow starts: on every push where it is left out; `manual` for never by itself."),
    Field("concurrency", CONCURRENCY, "Runs of one group supersede each other."),
    Field("notify", NOTIFY, "Whom to tell how a run ended: a secret that holds the address of a webhook."),
)  # fmt: skip

HINTS = {
    "gpu": "put it under resources:",
    "gpus": "write resources: {gpu: ...}",
    "cpu": "put it under resources:",
    "memory": "put it under resources:",
    "labels": "put it under resources:",
    "variables": "write variables in .dstack/variables.yaml",
    "needs": "write depends-on: [workflow]",
    "runs-on": "write resources: and labels: in it",
    "runs_on": "write resources: and labels: in it",
    "uses": "there are no actions here: write provider: bash and commands:",
    "steps": "write provider: bash and commands:",
    "run": "write provider: bash and commands:",
    "jobs": "write workflows:, a list of entries with a name each",
    "with": "write variables in .dstack/variables.yaml, or options beside provider:",
    "if": "write on: with patterns, or a gate:",
    "strategy": "write a custom provider that makes several jobs",
    "matrix": "write a custom provider that makes several jobs",
    "timeout-minutes": "write timeout: 10m",
    "timeout_minutes": "write timeout: 10m",
    "working-directory": "write working_dir:",
    "schedule": "write on: {schedule: ...}",
    "push": "write on: {push: ...}",
    "<<": "merge keys are not supported: write the keys out",
}
