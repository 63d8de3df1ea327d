"""The nouns of a workflow as its file says them: frozen data and small questions; reading is left to fields.py."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dstack.language.nodes import Table
from dstack.wire.job import ArtifactSpec, MetricsSpec, Retry

BUILT_IN_PROVIDERS = ("python", "bash")
NOTIFY_ON = ("failed", "recovered", "succeeded")
PULL_REQUEST_TYPES = ("opened", "synchronize", "reopened", "ready_for_review")


@dataclass(frozen=True, slots=True)
class ProviderRef:
    """Which provider makes the jobs: a built-in or one of `.dstack/providers.yaml` by `name`; or one of another `repo`
    at a `ref`, which the server pins to the commit it resolves to."""

    name: str
    repo: str = ""
    ref: str = ""

    @property
    def is_custom(self) -> bool:
        """Whether it runs on a runner and writes a job list, rather than being built in."""
        return bool(self.repo) or self.name not in BUILT_IN_PROVIDERS


@dataclass(frozen=True, slots=True)
class ProviderDefinition:
    """One entry of `.dstack/providers.yaml`: shell `commands` or a Python `module` (`package.module:Class`) that writes
    the job list, with the requirement files and Python version of its environment."""

    name: str
    commands: tuple[str, ...] = ()
    module: str = ""
    requirements: tuple[str, ...] = ()
    version: str | None = None


@dataclass(frozen=True, slots=True)
class Dependency:
    """What a workflow takes its inputs from. With a `tag`: artifacts of a run that stands already (None when the tag is
    missing and `optional`); without: the workflow runs first, in the same group. `copy` asks for writable inputs."""

    workflow: str
    tag: str | None = None
    repo: str | None = None
    optional: bool = False
    copy: bool = False

    @property
    def runs_first(self) -> bool:
        return self.tag is None

    def __str__(self) -> str:
        where = f"{self.repo}/" if self.repo else ""
        return f"{where}{self.workflow}" + (f":{self.tag}" if self.tag else "") + ("?" if self.optional else "")


@dataclass(frozen=True, slots=True)
class Concurrency:
    """Runs of one `group` supersede each other: what has not started stops; with `cancel_running` what runs, too."""

    group: str
    cancel_running: bool = False


@dataclass(frozen=True, slots=True)
class Notify:
    """Whom to tell of a run's end: the web address in a `secret` of the repository, or written out as `url`. `on` says
    of which ends: failed, recovered (the one before had failed), succeeded. `format` is slack or json."""

    secret: str = ""
    url: str = ""
    on: tuple[str, ...] = ("failed", "recovered")
    format: str = "slack"


@dataclass(frozen=True, slots=True)
class PushTrigger:
    """Patterns of a push. No `branches` and no `tags`: every branch, no tag. `paths` narrow what the workflow reads.
    Of each, the `_ignore` patterns are those that do not count, given in place of those that do."""

    branches: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    branches_ignore: tuple[str, ...] = ()
    tags_ignore: tuple[str, ...] = ()
    paths_ignore: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PullRequestTrigger:
    """Patterns of the branch a pull request goes to, and of the paths it changes. `types` are what may have happened to
    it; `drafts`: it need not be ready for review."""

    branches: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    branches_ignore: tuple[str, ...] = ()
    paths_ignore: tuple[str, ...] = ()
    types: tuple[str, ...] = PULL_REQUEST_TYPES
    drafts: bool = False


@dataclass(frozen=True, slots=True)
class ScheduleTrigger:
    """A cron expression of five fields in a time zone; `missed` says what happens to times the server was down for."""

    cron: str
    timezone: str = "UTC"
    missed: str = "run-latest"


@dataclass(frozen=True, slots=True)
class Triggers:
    """When a workflow starts by itself; each empty or None means never for that reason. By hand it always can."""

    push: PushTrigger | None = None
    pull_request: PullRequestTrigger | None = None
    comment: str = ""
    schedule: tuple[ScheduleTrigger, ...] = ()
    tag_moved: tuple[Dependency, ...] = ()
    event: tuple[str, ...] = ()


ON_EVERY_PUSH = Triggers(push=PushTrigger())


@dataclass(frozen=True, slots=True)
class Workflow:
    """One entry of `.dstack/workflows.yaml`, checked. Values may hold `${{ }}` until `resolve` fills them in, so what
    will be a number may be text here; `options` are those of the provider. `variables` are defaults, the workflow's own
    over the global ones. `timeout` and `stop_grace` are in seconds. `node` is what it was read from."""

    name: str
    provider: ProviderRef
    help: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    depends_on: tuple[Dependency, ...] = ()
    artifacts: tuple[ArtifactSpec, ...] = ()
    metrics: MetricsSpec | None = None
    report: str | None = None
    gate: str | None = None
    resources: dict[str, Any] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    cache: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    tag: str | None = None
    timeout: int | str | None = None
    stop_grace: int | str | None = None
    retry: Retry = field(default_factory=Retry)
    triggers: Triggers = ON_EVERY_PUSH
    concurrency: Concurrency | None = None
    notify: Notify | None = None
    node: Table | None = field(default=None, repr=False, compare=False)

    @property
    def needs(self) -> tuple[str, ...]:
        """The workflows that run before it, in its group."""
        return tuple(dict.fromkeys(d.workflow for d in self.depends_on if d.runs_first))
