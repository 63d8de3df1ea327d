"""A job as providers make it and runners execute it: plain dataclasses, standard library only.

This is half of the public API (`from dstack import Job, Resources, Gpu`): custom providers build these, the server
validates and stores them, the runner executes them. Every field has a default, so older peers stay readable.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from dstack.wire.states import Reason


@dataclass(frozen=True, slots=True)
class Gpu:
    """GPUs a job needs: `count` whole ones, with `name` as a part of theirs (any case), of at least `memory` bytes."""

    count: int = 0
    name: str | None = None
    memory: int | None = None


@dataclass(frozen=True, slots=True)
class Resources:
    """What a machine must have free: whole GPUs, CPU cores, memory in bytes, and labels of the runner."""

    gpu: Gpu = field(default_factory=Gpu)
    cpu: int | None = None
    memory: int | None = None
    labels: tuple[str, ...] = ()


class SaveWhen(StrEnum):
    """When an artifact is stored: after success only, or also after failure, stop and timeout."""

    SUCCESS = "success"
    ALWAYS = "always"


@dataclass(frozen=True, slots=True)
class ArtifactSpec:
    """A named set of files a job outputs: a relative folder, file or glob inside the checkout."""

    path: str
    when: SaveWhen = SaveWhen.SUCCESS


@dataclass(frozen=True, slots=True)
class MetricsSpec:
    """Where final metrics come from: a nested JSON or CSV (last row) `file`, and regular expressions on the `log`
    (metric name -> pattern with one group, last match counts). `headline` is the one shown first."""

    file: str | None = None
    log: dict[str, str] = field(default_factory=dict)
    headline: str | None = None
    better: str = "higher"


@dataclass(frozen=True, slots=True)
class PythonSpec:
    """The Python environment made for a job. `requirements` are requirement files, `pyproject.toml` or `uv.lock`
    relative to the working directory; `packages` are requirement lines written in place."""

    version: str | None = None
    requirements: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Command:
    """One step of a job: `shell` text run by `bash -e`, or `argv` run as it stands (no shell). Exactly one is given."""

    shell: str | None = None
    argv: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Retry:
    """How often a job goes back to the queue, and for which reasons."""

    on: tuple[Reason, ...] = (Reason.RUNNER_LOST, Reason.PREEMPTED)
    limit: int = 2


DEFAULT_STOP_GRACE_S = 10


@dataclass(frozen=True, slots=True)
class Job:
    """One unit that a machine executes. Times are in seconds; `timeout_s` None means no limit.

    `env` values are literal. `secrets` are names; the values are added by the server when the job is accepted.
    `expects_jobs` marks the short job of a custom provider: its output is a list of jobs, not artifacts.
    """

    commands: tuple[Command, ...]
    name: str = ""
    env: dict[str, str] = field(default_factory=dict)
    python: PythonSpec | None = None
    working_dir: str = "."
    artifacts: tuple[ArtifactSpec, ...] = ()
    resources: Resources = field(default_factory=Resources)
    secrets: tuple[str, ...] = ()
    cache: tuple[str, ...] = ()
    metrics: MetricsSpec | None = None
    report: str | None = None
    timeout_s: int | None = None
    stop_grace_s: int = DEFAULT_STOP_GRACE_S
    retry: Retry = field(default_factory=Retry)
    expects_jobs: bool = False
