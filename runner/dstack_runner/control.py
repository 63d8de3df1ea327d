"""Who may end an attempt, and when: stops from server and runner, the time limit, and the process they act on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from dstack.errors import Conflict
from dstack.wire.runner import Stop
from dstack_runner.executors.base import Exit, Running


class Stopped(Conflict):
    """The attempt was asked to stop; `Control.stop` says by whom."""

    code: ClassVar[str] = "stopped"


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process of the job ended, and whether its time was over."""

    exit: Exit
    timed_out: bool = False


class Control:
    """Shared by the attempt's own thread and those that stop it; every method may be called from any thread.

    `asked` is set when the attempt must end for whatever reason; `lost` when the lease is gone: the job is killed at
    once and nothing more is written to the server.
    """

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.lost = threading.Event()
        self._guard = threading.Lock()
        self._stop: Stop | None = None
        self._running: Running | None = None

    @property
    def stop(self) -> Stop | None:
        return self._stop

    def request(self, stop: Stop) -> None:
        """Ask the attempt to end. The first asker gives the reason; a later one can only make it quicker."""
        with self._guard:
            if stop.lost:
                self.lost.set()
            if self._stop is None or stop.lost:
                self._stop = stop
            self.asked.set()
            running = self._running
        if running is not None:
            _end(running, stop)

    def check(self) -> None:
        """Raises Stopped when the attempt must end."""
        if self._stop is not None:
            raise Stopped("the attempt was asked to stop")

    def wait(self, seconds: float) -> None:
        """Pause between two tries. Raises Stopped as soon as the attempt must end."""
        self.asked.wait(seconds)
        self.check()

    def run(self, start: Callable[[], Running], *, limit_s: float | None, grace_s: float) -> Ended:
        """Start a process and see it to its end, within `limit_s` seconds plus grace. Raises Stopped when the attempt
        had to end before it could start."""
        with self._guard:
            if self._stop is not None:
                raise Stopped("the attempt was asked to stop")
            running = self._running = start()
        try:
            exit = running.wait(limit_s)
            timed_out = exit is None
            if timed_out:
                running.stop(grace_s)
            while exit is None:
                exit = running.wait(None)
            return Ended(exit, timed_out)
        except BaseException:
            running.kill()
            running.wait(None)
            raise
        finally:
            with self._guard:
                self._running = None


def _end(running: Running, stop: Stop) -> None:
    if stop.lost:
        running.kill()
    else:
        running.stop(stop.grace_s)
