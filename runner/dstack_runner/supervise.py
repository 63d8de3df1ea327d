"""Leads one launch: a small process of its own that starts the job's process, passes stops on, lets nothing survive the
end, and reports how it ended. Runs on the standard library alone and imports little: it is started for every launch.

It is the subreaper of all the job starts, so a process that forks twice, opens a session of its own or clears its
environment still is a descendant. The runner holds the other end of its standard input, the control pipe:
first the launch (length in 8 bytes, then marshal), then lines `stop SECONDS` and `kill`. When the pipe closes, the
runner is gone and everything is killed. To the report pipe it writes `started PID` or `failed WORDS`, and at the end
`exit CODE SIGNAL LEFTOVERS KILLED` (SIGNAL -1 for none; KILLED 1 when the main process got our KILL).
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the C half of `signal`, whose enums cost two milliseconds
import marshal
import os
import select
import sys
import time

from dstack_runner import become, kernel, processes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

KILL, TERM, STOP, CHLD = _signal.SIGKILL, _signal.SIGTERM, _signal.SIGSTOP, _signal.SIGCHLD
SHUTDOWN_GRACE_S = 10.0  # when the machine itself sends TERM to everybody
KILL_DEADLINE_S = 10.0  # a process that KILL does not end by then hangs in the kernel: it is reported, not waited for
_ROUNDS = 20


def main() -> None:
    report = int(sys.argv[1])
    try:
        launch = _read_launch()
        wake = _listen()
        kernel.become_subreaper()
        pid = become.start(launch)
    except OSError as error:
        _tell(report, f"failed {error.filename or ''}: {error.strerror}")
        return
    os.close(launch["output"])
    _tell(report, f"started {pid}")
    Supervisor(pid, launch, wake, report).run()
    os._exit(0)  # nothing is left to tidy; this saves two milliseconds


class Supervisor:
    """Watches one job until nothing of it is left."""

    def __init__(self, pid: int, launch: dict[str, Any], wake: int, report: int) -> None:
        self.pid = pid
        self.uid: int | None = launch["uid"]
        self.cgroup_kill: str = launch["cgroup_kill"]
        self.wake = wake
        self.report = report
        self.status: int | None = None  # the main process's wait status, once it ended
        self.has_children = True
        self.killed = False
        self.deadline: float | None = None  # when a stop's grace ends
        self.commands = b""
        self.orphaned = False

    def run(self) -> None:
        poll = select.poll()
        poll.register(0, select.POLLIN)
        poll.register(self.wake, select.POLLIN)
        while self._goes_on():
            left = None if self.deadline is None else max(0, int((self.deadline - time.monotonic()) * 1000) + 1)
            for descriptor, _ in poll.poll(left):
                if descriptor == 0:
                    self._read_commands()
                else:
                    self._read_signals()
            self.reap()
        self.killed = self.status is None
        leftovers = self.kill_all()
        if not self.orphaned:
            self._tell_end(leftovers)

    def _goes_on(self) -> bool:
        """Until the main process ended; during a stop, until all ended or the grace is over."""
        if self.orphaned or not self.has_children:
            return False
        if self.deadline is None:
            return self.status is None
        return time.monotonic() < self.deadline

    def _read_commands(self) -> None:
        data = os.read(0, 4096)
        if not data:
            self.orphaned = True
            return
        *lines, self.commands = (self.commands + data).split(b"\n")
        for line in lines:
            words = line.split()
            self.stop(float(words[1]) if words[0] == b"stop" else 0.0)

    def _read_signals(self) -> None:
        if any(number != CHLD for number in os.read(self.wake, 512)):
            self.stop(SHUTDOWN_GRACE_S)

    def stop(self, grace_s: float) -> None:
        """TERM to every process the first time; later calls only shorten the grace."""
        end = time.monotonic() + grace_s
        if self.deadline is None:
            self.deadline = end
            if grace_s > 0:
                processes.signal_all(self._descendants(), TERM)
        self.deadline = min(self.deadline, end)

    def reap(self) -> None:
        """Take note of every child that ended. No child left means no descendant left: orphans become ours."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                self.has_children = False
                return
            if pid == 0:
                return
            if pid == self.pid:
                self.status = status

    def kill_all(self) -> int:
        """KILL until nothing is left, faster than the job can fork. Answers how many outlived the main process."""
        self.reap()
        leftovers = [pid for pid in self._descendants() if pid != self.pid] if self.has_children else []
        deadline = time.monotonic() + KILL_DEADLINE_S
        pause = 0.0005
        while self.has_children and time.monotonic() < deadline:
            self._kill_once()
            time.sleep(pause)
            pause = min(pause * 2, 0.05)
            self.reap()
        return len(leftovers)

    def _kill_once(self) -> None:
        if self.cgroup_kill:
            try:
                become.write(self.cgroup_kill, b"1")
            except OSError:
                pass  # the next measure does without
        if self.uid is not None:
            kill_user(self.uid)
        else:
            self._kill_tree()

    def _kill_tree(self) -> None:
        """Stand still first: a process that is stopped forks no more, so the rounds come to an end."""
        still: set[int] = set()
        for _ in range(_ROUNDS):
            moving = set(self._descendants()) - still
            if not moving:
                break
            processes.signal_all(moving, STOP)
            still |= moving
        processes.signal_all(self._descendants(), KILL)

    def _descendants(self) -> list[int]:
        return processes.below([os.getpid()], processes.parents())

    def _tell_end(self, leftovers: int) -> None:
        status = KILL if self.status is None else self.status
        signal = os.WTERMSIG(status) if os.WIFSIGNALED(status) else -1
        code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else 0
        _tell(self.report, f"exit {code} {signal} {leftovers} {int(self.killed)}")


def kill_user(uid: int) -> None:
    """KILL every process of a user in one stroke, which no fork escapes: the kernel does it under its own lock."""
    pid = os.fork()
    if pid == 0:
        try:
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            os.kill(-1, KILL)
        except OSError:
            pass
        finally:
            os._exit(0)
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        pass


def _listen() -> int:
    """Signals become bytes on the descriptor this answers, so that one poll hears commands and children alike."""
    ears, mouth = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    _signal.set_wakeup_fd(mouth, warn_on_full_buffer=False)
    for number in (CHLD, TERM, _signal.SIGINT, _signal.SIGHUP):
        _signal.signal(number, lambda *_: None)
    return ears


def _read_launch() -> dict[str, Any]:
    size = int.from_bytes(_read_exactly(8), "big")
    launch: dict[str, Any] = marshal.loads(_read_exactly(size))  # noqa: S302  written by our own runner
    os.set_inheritable(launch["output"], False)
    os.set_inheritable(int(sys.argv[1]), False)
    return launch


def _read_exactly(size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = os.read(0, size - len(data))
        if not part:
            os._exit(1)  # the runner died before it said what to do
        data += part
    return data


def _tell(report: int, line: str) -> None:
    try:
        os.write(report, line.encode() + b"\n")
    except BrokenPipeError:
        pass  # the runner died; there is nobody to tell
