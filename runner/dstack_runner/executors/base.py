"""What it means to execute a job's process: the contract between the runner's steps and its executors.

Order of calls, for one process of an attempt:

1. `executor.start(launch, output)` once. It returns when the process runs (or raises `StartFailed`: the machine could
   not do it, nothing of the job ran, nothing is left). A program that cannot be run (not found, not executable) is the
   job's own failure: it starts, says so on its output and ends with exit code 127 or 126, as in a shell.
   `output` is a file descriptor of the caller that the job's stdout and stderr share; the executor has its own copy
   when `start` returns, so the caller closes its own then, or its reader never sees the end.
2. `running.wait(timeout_s)` by one thread at a time, as often as wanted: None while the job goes on, then its `Exit`,
   the same one for ever. When it has answered an `Exit`, nothing of the launch lives any more: no process (double
   forked, in a session of its own or with an empty environment alike), no mount, no cgroup, and nobody holds `output`
   open. A launch that was started must be waited for, or its last resources stay.
3. `running.stop(grace_s)` and `running.kill()` from any thread, at any time, any number of times, also after the end.
   They ask and return at once; `wait` tells the outcome. `stop` sends every process TERM once, and KILL to those that
   live `grace_s` seconds later; while the grace lasts, children may outlive the main process to finish their work.
   A later `stop` only ever shortens the grace. Without a stop, children that outlive the main process are killed at
   once when it ends, and counted as `leftovers`.

Launches are independent and any number may run at the same time; only those that share a `user` run one after the
other, for the end of one kills everything of that user. If the runner itself dies, however hard, every process it
launched is killed within two seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Protocol

from dstack.errors import DstackError

MARK = "DSTACK_ATTEMPT_ID"  # the environment variable that every launch gets, its scope: strays are known by it


class StartFailed(DstackError):
    """The machine could not start a job's process: no memory, no such folder, a mount refused. Nothing of it ran."""

    code: ClassVar[str] = "start_failed"


@dataclass(frozen=True, slots=True)
class JobUser:
    """The user a job runs as: an id of the runner's pool, with a group of the same number and no name."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Limits:
    """What one launch may use at most; None means no limit of its own.

    `memory` is in bytes, over all its processes, and holds where the machine lends the runner a memory cgroup
    (elsewhere it is only a wish). `pids` counts processes and threads.
    """

    memory: int | None = None
    pids: int | None = 16384


@dataclass(frozen=True, slots=True)
class Mount:
    """`source` shows up at `target` for the job alone and is gone with it. Both exist, and are both folders or both
    files; no part of `target` is a symbolic link. Needs isolation."""

    source: Path
    target: Path
    writable: bool = False


@dataclass(frozen=True, slots=True)
class Launch:
    """One process to execute, whole: nothing else reaches it, not even the runner's own environment (but the executor
    adds `DSTACK_ATTEMPT_ID`, its scope).

    `argv[0]` is looked up in the PATH of `env`. `scope` names the attempt: sweeping finds what belongs together by it.
    With a `user`, the job is isolated: it runs as that user and sees the machine's files with these exceptions.
    Folders that are closed to it (a 0700 home, say) and those the runner hides (its data) look empty but for what is
    named here, with all below it: `visible` for reading (what is missing is passed over), `writable` and `cwd` also for
    writing, and `mounts`. File modes still hold: what the job is to write must belong to its user. `/tmp` and
    `/var/tmp` are the folder `tmp` (on disk, mode 1777; None: in memory, of this launch alone), `/dev/shm` is fresh.
    Without a user, all of this is nothing and the job is a plain process of the runner's own user.
    """

    argv: tuple[str, ...]
    env: dict[str, str]
    cwd: Path
    scope: str
    user: JobUser | None = None
    limits: Limits = field(default_factory=Limits)
    visible: tuple[Path, ...] = ()
    writable: tuple[Path, ...] = ()
    mounts: tuple[Mount, ...] = ()
    tmp: Path | None = None


@dataclass(frozen=True, slots=True)
class Exit:
    """How a launch ended: by an exit code or by a signal, one of both is None.

    `out_of_memory`: the kernel killed a process of it for want of memory (the main one, or a child whose death it may
    have survived). `leftovers` counts processes killed after the main one had ended.
    """

    code: int | None
    signal: int | None = None
    out_of_memory: bool = False
    leftovers: int = 0

    @property
    def is_success(self) -> bool:
        return self.code == 0

    @property
    def shell_code(self) -> int:
        """The exit code a shell would show: 128 + N for signal N."""
        return self.code if self.code is not None else 128 + (self.signal or 0)


class Running(Protocol):
    """A launch that was started; see the contract above."""

    @property
    def pid(self) -> int:
        """The main process of the job."""

    def wait(self, timeout_s: float | None = None) -> Exit | None: ...

    def stop(self, grace_s: float) -> None: ...

    def kill(self) -> None: ...


class Executor(Protocol):
    """Starts processes. `isolates` tells whether a `Launch` may name a user and mounts here."""

    @property
    def isolates(self) -> bool: ...

    def start(self, launch: Launch, output: int) -> Running: ...
