"""One attempt while it lives: its order, its folder, its log, and how it launches processes. Steps work on it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dstack.wire.runner import Order
from dstack_runner.artifacts import Artifacts
from dstack_runner.caches import Caches
from dstack_runner.content.cache import BlobCache
from dstack_runner.control import Control, Ended
from dstack_runner.environments import Environments, Provided
from dstack_runner.executors.base import Executor, JobUser, Launch, Limits
from dstack_runner.interpreters import own_interpreter
from dstack_runner.jobenv import base_env
from dstack_runner.joblog import JobLog
from dstack_runner.workspace import Workspaces, give


@dataclass(frozen=True)
class Kit:
    """What all attempts of a runner share."""

    server_url: str
    executor: Executor
    workspaces: Workspaces
    environments: Environments
    caches: Caches
    blobs: BlobCache


@dataclass(frozen=True, slots=True)
class Places:
    """The folders of an attempt. All belong to the job's user but `root`."""

    root: Path

    @property
    def checkout(self) -> Path:
        return self.root / "work"

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def tmp(self) -> Path:
        return self.root / "tmp"

    @property
    def venv(self) -> Path:
        return self.root / "venv"

    @property
    def out(self) -> Path:
        """Where the job leaves what is not an artifact: its metrics, a provider's list of jobs."""
        return self.root / "out"

    @property
    def metrics(self) -> Path:
        return self.out / "metrics.jsonl"

    @property
    def output(self) -> Path:
        return self.out / "output"


@dataclass
class Attempt:
    """Steps read `order` and fill in what they make. `user` is None where jobs are not isolated."""

    order: Order
    lease: str
    kit: Kit
    places: Places
    control: Control
    log: JobLog
    log_file: Path
    content: Artifacts
    user: JobUser | None = None
    mirror: Path | None = None
    env: Provided | None = None
    reads: tuple[Path, ...] = field(
        default_factory=lambda: (own_interpreter().prefix,)
    )  # what its programs need of this machine beyond what everybody may read
    exit_code: int | None = None
    ran: bool = False  # all commands ended well
    metrics: dict[str, float] = field(default_factory=dict)
    report: str = ""
    jobs: str = ""
    machine: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))

    def base_env(self) -> dict[str, str]:
        tmp = Path("/tmp") if self.user is not None else self.places.tmp  # noqa: S108  isolated, /tmp is the job's own
        return base_env(
            self.machine, home=self.places.home, tmp=tmp, own_prefix=sys.prefix, python=own_interpreter().executable
        )

    def own(self, folder: Path) -> Path:
        """Hand a folder to the job's user, where it has one."""
        if self.user is not None:
            give(folder, self.user.uid, self.user.gid)
        return folder

    def launch(
        self,
        words: tuple[str, ...],
        env: Mapping[str, str],
        cwd: Path,
        *,
        limit_s: float | None = None,
        confined: bool = True,
        also_writable: tuple[Path, ...] = (),
        output: int | None = None,
    ) -> Ended:
        """Run one process to its end, its output in the job's log (or at the descriptor `output`). Raises Stopped,
        StartFailed. Not `confined`, it is the runner's own program on the attempt's behalf."""
        user = self.user if confined else None
        launch = Launch(
            argv=words,
            env=dict(env),
            cwd=cwd,
            scope=self.order.attempt,
            user=user,
            limits=Limits(memory=self.order.job.resources.memory) if confined else Limits(),
            visible=self._visible(),
            writable=(*self._writable(), *also_writable),
            tmp=self.places.tmp,
        )
        grace_s = float(self.order.job.stop_grace_s)
        if output is not None:
            return self._run(launch, output, limit_s, grace_s)
        with self.log.capture() as pipe:
            return self._run(launch, pipe, limit_s, grace_s)

    def _run(self, launch: Launch, output: int, limit_s: float | None, grace_s: float) -> Ended:
        return self.control.run(lambda: self.kit.executor.start(launch, output), limit_s=limit_s, grace_s=grace_s)

    def _visible(self) -> tuple[Path, ...]:
        mirror = (self.mirror,) if self.mirror is not None else ()
        return (*mirror, *self.reads)

    def _writable(self) -> tuple[Path, ...]:
        places = self.places
        mine = (places.checkout, places.home, places.out, places.venv)
        return (*(folder for folder in mine if folder.exists()), *self.kit.caches.held(self.order.attempt))
