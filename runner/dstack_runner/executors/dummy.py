"""Plays a launch without a process: every end a job can have, on request, under the same contract (`base.py`).

What is played is a list of acts, by default the words of the launch after `argv[0]`:
`start-fails` · `print:TEXT` · `burst:BYTES` · `sleep:SECONDS` · `forever` · `ignore-term` (from here on) ·
`leftovers:N` · `exit:CODE` · `signal:N` · `out-of-memory`. After the last act it ends with exit code 0.
"""

from __future__ import annotations

import itertools
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from dstack_runner.executors.base import Exit, Launch, Running, StartFailed

_LINE = b"." * 99 + b"\n"
_TICK_S = 0.05  # how often a blocked write looks whether it was killed


def _words(launch: Launch) -> Sequence[str]:
    return launch.argv[1:]


class DummyExecutor:
    """Keeps the launches it was given in `launches`, for a test to look at."""

    def __init__(self, acts: Callable[[Launch], Sequence[str]] = _words, *, isolates: bool = False) -> None:
        self.launches: list[Launch] = []
        self._acts = acts
        self._isolates = isolates
        self._pids = itertools.count(2**22 + 1)  # above any the kernel gives

    @property
    def isolates(self) -> bool:
        return self._isolates

    def start(self, launch: Launch, output: int) -> Running:
        acts = list(self._acts(launch))
        if "start-fails" in acts:
            raise StartFailed("the dummy was told not to start")
        self.launches.append(launch)
        return DummyRunning(acts, os.dup(output), next(self._pids))


class DummyRunning:
    """One play, on a thread of its own."""

    def __init__(self, acts: Sequence[str], output: int, pid: int) -> None:
        self._pid = pid
        self._output = output
        self._exit = Exit(0)
        self._leftovers = 0
        self._ignores_term = False
        self._changed = threading.Condition()
        self._deadline: float | None = None
        self._thread = threading.Thread(target=self._play, args=(acts,), name=f"dummy-{pid}", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int:
        return self._pid

    def wait(self, timeout_s: float | None = None) -> Exit | None:
        self._thread.join(timeout_s)
        return None if self._thread.is_alive() else self._exit

    def stop(self, grace_s: float) -> None:
        end = time.monotonic() + max(0.0, grace_s)
        with self._changed:
            self._deadline = end if self._deadline is None else min(self._deadline, end)
            self._changed.notify_all()

    def kill(self) -> None:
        self.stop(0)

    def _play(self, acts: Sequence[str]) -> None:
        try:
            self._exit = self._end_of(acts)
        except BrokenPipeError:
            self._exit = Exit(None, signal.SIGPIPE)
        finally:
            self._exit = replace(self._exit, leftovers=self._leftovers)
            os.close(self._output)

    def _end_of(self, acts: Sequence[str]) -> Exit:
        for act in acts:
            word, _, value = act.partition(":")
            end = self._perform(word, value) or self._stopped()
            if end:
                return end
        return Exit(0)

    def _perform(self, word: str, value: str) -> Exit | None:
        if word == "print":
            return self._write(value.encode() + b"\n")
        if word == "burst":
            size = int(value)
            return self._write((_LINE * (size // len(_LINE) + 1))[:size])
        if word in ("sleep", "forever"):
            return self._rest(float(value) if value else None)
        if word == "ignore-term":
            self._ignores_term = True
        elif word == "leftovers":
            self._leftovers = int(value)
        elif word == "exit":
            return Exit(int(value))
        elif word == "signal":
            return Exit(None, int(value))
        elif word == "out-of-memory":
            return Exit(None, signal.SIGKILL, out_of_memory=True)
        else:
            raise ValueError(f"the dummy knows no act {word!r}")
        return None

    def _write(self, data: bytes) -> Exit | None:
        """Never blocks for good: a stopped job ends even if nobody reads what it prints."""
        poll = select.poll()
        poll.register(self._output, select.POLLOUT)
        view = memoryview(data)
        while view:
            if end := self._stopped():
                return end
            if poll.poll(_TICK_S * 1000):
                view = view[os.write(self._output, view[: select.PIPE_BUF]) :]
        return None

    def _rest(self, seconds: float | None) -> Exit | None:
        end = None if seconds is None else time.monotonic() + seconds
        with self._changed:
            while (stopped := self._stopped()) is None:
                moments = [moment for moment in (end, self._deadline) if moment is not None]
                left = min(moments) - time.monotonic() if moments else None
                if end is not None and time.monotonic() >= end:
                    return None
                self._changed.wait(left)
            return stopped

    def _stopped(self) -> Exit | None:
        """TERM ends it, unless ignored; then KILL does, when the grace is over."""
        if self._deadline is None:
            return None
        if time.monotonic() >= self._deadline:
            return Exit(None, signal.SIGKILL)
        return None if self._ignores_term else Exit(None, signal.SIGTERM)
