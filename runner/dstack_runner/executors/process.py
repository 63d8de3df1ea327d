"""Executes a launch as processes of this machine, led by a supervisor (`supervise.py`); `base.py` has the contract."""

from __future__ import annotations

import fcntl
import itertools
import marshal
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import dstack_runner
from dstack_runner import isolation, processes, sweep
from dstack_runner.cgroup import Cgroups, Group, machine_oom_kills
from dstack_runner.executors.base import MARK, Exit, Launch, Running, StartFailed
from dstack_runner.executors.record import Record, name_of

START_LIMIT_S = 30.0

LaunchWords = dict[str, Any]

_ROOT = str(Path(dstack_runner.__file__).parent.parent)
# `-I -S`: nothing of the user's environment and no site packages, so it starts in 8 ms. It runs the module by an import
# and not as a script, for a script is compiled anew each time.
_SUPERVISOR = (
    str(getattr(sys, "_base_executable", "") or sys.executable),
    "-I",
    "-S",
    "-c",
    f"import sys; sys.path.append({_ROOT!r}); from dstack_runner.supervise import main; main()",
)


class ProcessExecutor:
    """Jobs as plain processes: isolated where `isolates`, limited where `cgroups` has a place for it."""

    def __init__(
        self, records: Path, *, cgroups: Cgroups | None = None, hidden: Sequence[Path] = (), isolates: bool = False
    ) -> None:
        """`records` is a folder for what sweeping must know should this runner die (`sweep.py`); `hidden` are folders
        that no isolated job sees into, whatever their modes: the runner's own data."""
        self.records = records
        self.cgroups = cgroups or Cgroups({})
        self.hidden = tuple(hidden)
        self._isolates = isolates
        self._numbers = itertools.count()
        records.mkdir(parents=True, exist_ok=True)

    @property
    def isolates(self) -> bool:
        return self._isolates

    def start(self, launch: Launch, output: int) -> Running:
        if (launch.user or launch.mounts) and not self._isolates:
            raise StartFailed("this runner cannot isolate jobs, and the launch asks for a user or mounts of its own")
        view = isolation.view(launch, self.hidden) if launch.user else []
        name = name_of(launch.scope, next(self._numbers))
        # A user of its own is limited in processes by the kernel's count for users, which costs nothing.
        group = self.cgroups.make(name, launch.limits.memory, None if launch.user else launch.limits.pids)
        scene = Scene(launch, group, self.records / f"{name}.json", machine_oom_kills())
        try:
            return _start(scene, words(launch, view, group), output)
        except BaseException:
            scene.clear()
            raise


@dataclass(frozen=True, slots=True)
class Scene:
    """What belongs to one launch outside its processes, and must go when they are gone."""

    launch: Launch
    group: Group | None
    record: Path
    ooms_before: int

    def note(self, supervisor: int) -> None:
        groups = tuple(str(path) for path in self.group.paths) if self.group else ()
        uid = self.launch.user.uid if self.launch.user else None
        Record(self.launch.scope, supervisor, processes.start_time(supervisor) or 0, uid, groups).write(self.record)

    def clear(self) -> None:
        if self.group:
            self.group.remove()
        self.record.unlink(missing_ok=True)

    def is_out_of_memory(self, by_kill: bool) -> bool:
        """Its group knows. Without one: it ended by a KILL that was not ours while the machine was killing for memory;
        a guess, wrong only when another program ran out of memory at the same time."""
        if self.group and "memory" in self.group.folders:
            return self.group.oom_kills() > 0
        return by_kill and machine_oom_kills() > self.ooms_before


class Report:
    """The supervisor's lines, read with a limit of time."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._text = b""

    def line(self, timeout_s: float | None) -> str | None:
        """The next line; None when none comes in time, an empty one when the supervisor is gone."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        while b"\n" not in self._text:
            left = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
            if not poll.poll(left):
                return None
            part = os.read(self._descriptor, 4096)
            if not part:
                return ""
            self._text += part
        line, _, self._text = self._text.partition(b"\n")
        return line.decode(errors="replace")

    def close(self) -> None:
        os.close(self._descriptor)


class ProcessRunning:
    """One launch under its supervisor."""

    def __init__(self, supervisor: subprocess.Popen[bytes], report: Report, pid: int, scene: Scene) -> None:
        self._supervisor = supervisor
        self._report = report
        self._pid = pid
        self._scene = scene
        self._control = threading.Lock()
        self._exit: Exit | None = None

    @property
    def pid(self) -> int:
        return self._pid

    def wait(self, timeout_s: float | None = None) -> Exit | None:
        if self._exit is None:
            line = self._report.line(timeout_s)
            if line is not None:
                self._exit = self._ended(line)
        return self._exit

    def stop(self, grace_s: float) -> None:
        self._say(f"stop {max(0.0, grace_s):.3f}\n")

    def kill(self) -> None:
        self._say("kill\n")

    def _say(self, line: str) -> None:
        assert self._supervisor.stdin
        with self._control:
            if self._supervisor.stdin.closed:
                return
            try:
                self._supervisor.stdin.write(line.encode())
            except BrokenPipeError:
                pass  # it is over already, and wait will say how

    def _ended(self, line: str) -> Exit:
        _dismiss(self._supervisor, self._control)
        self._report.close()
        exit = self._exit_of(line) if line else self._after_a_murder()
        self._scene.clear()
        return exit

    def _exit_of(self, line: str) -> Exit:
        code, number, leftovers, killed = (int(word) for word in line.split()[1:])
        by_kill = (number == signal.SIGKILL or code == 128 + signal.SIGKILL) and not killed
        out_of_memory = self._scene.is_out_of_memory(by_kill)
        return Exit(None if number >= 0 else code, number if number >= 0 else None, out_of_memory, leftovers)

    def _after_a_murder(self) -> Exit:
        """Somebody killed the supervisor (a job that runs as our own user can): clear up in its place."""
        launch, group = self._scene.launch, self._scene.group
        uid = launch.user.uid if launch.user else None
        killed = sweep.kill(sweep.Strays(launch.scope, uid, group.paths if group else (), session=self._pid))
        return Exit(None, signal.SIGKILL, self._scene.is_out_of_memory(by_kill=True), killed)


def words(launch: Launch, view: Sequence[isolation.Step], group: Group | None) -> LaunchWords:
    """The launch as the supervisor reads it, plain values only; where its output goes is added later."""
    user = launch.user
    return {
        "argv": list(launch.argv),
        "env": {**launch.env, MARK: launch.scope},
        "cwd": str(launch.cwd),
        "uid": user.uid if user else None,
        "gid": user.gid if user else None,
        "pids": launch.limits.pids,
        "view": list(view),
        "cgroup_join": list(group.join) if group else [],
        "cgroup_kill": group.kill if group else "",
    }


def _send(control: IO[bytes], launch: LaunchWords) -> None:
    data = memoryview(marshal.dumps(launch))
    control.write(len(data).to_bytes(8, "big"))
    while data:
        data = data[control.write(data) :]  # unbuffered: a big launch goes in parts


def _start(scene: Scene, launch: LaunchWords, output: int) -> ProcessRunning:
    ears, mouth = os.pipe()
    high = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3) for descriptor in (mouth, output)]
    os.close(mouth)
    launch["output"] = high[1]
    try:
        supervisor = _spawn(*high)
    except OSError as error:
        os.close(ears)
        raise StartFailed(f"no process could be started for {scene.launch.scope}: {error}") from error
    finally:
        for descriptor in high:
            os.close(descriptor)
    report = Report(ears)
    try:
        scene.note(supervisor.pid)
        assert supervisor.stdin
        _send(supervisor.stdin, launch)
        return ProcessRunning(supervisor, report, _started(report), scene)
    except BaseException as error:
        supervisor.kill()  # it has started nothing, or its child dies with it
        _dismiss(supervisor, threading.Lock())
        report.close()
        if isinstance(error, BrokenPipeError):
            raise StartFailed("the supervisor ended before it started the job") from error
        raise


def _spawn(mouth: int, output: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*_SUPERVISOR, str(mouth)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        bufsize=0,
        pass_fds=(mouth, output),
        cwd="/",
        # A Ctrl-C at the runner's terminal is for the runner to handle.
        start_new_session=True,
        env={key: os.environ[key] for key in ("LD_LIBRARY_PATH",) if key in os.environ},
    )


def _started(report: Report) -> int:
    line = report.line(START_LIMIT_S)
    if line is None:
        raise StartFailed(f"the job's process did not start within {START_LIMIT_S:.0f} s")
    word, _, rest = line.partition(" ")
    if word != "started":
        raise StartFailed(f"the job's process could not be started: {rest or 'the supervisor ended'}")
    return int(rest)


def _dismiss(supervisor: subprocess.Popen[bytes], control: threading.Lock) -> None:
    assert supervisor.stdin
    with control:
        supervisor.stdin.close()
    supervisor.wait()
