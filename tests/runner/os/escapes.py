"""Ways in which a job tries to leave a process behind. Run as `python escapes.py TRICK TOKEN`; the survivor to be
sleeps with MARK-TRICK-TOKEN in its command line, and the main process ends at once."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time

MARK = "dstack-escape"
TRICK = "-".join(sys.argv[1:]) if __name__ == "__main__" else ""
SLEEP = [sys.executable, "-c", "import time; time.sleep(600)", f"{MARK}-{TRICK}"]


def survive(env: dict[str, str] | None = None) -> None:
    os.execve(SLEEP[0], SLEEP, dict(os.environ) if env is None else env)


def fork_away(action) -> None:
    if os.fork() == 0:
        action()
        os._exit(0)


def background() -> None:
    subprocess.Popen(SLEEP)


def own_session() -> None:
    subprocess.Popen(SLEEP, start_new_session=True)


def double_fork() -> None:
    def daemon() -> None:
        os.setsid()
        fork_away(survive)

    fork_away(daemon)


def empty_environment() -> None:
    fork_away(lambda: (os.setsid(), survive({})))


def closed_descriptors() -> None:
    fork_away(lambda: (os.setsid(), os.closerange(0, 256), survive()))


def ignored_signals() -> None:
    def deaf() -> None:
        for number in range(1, 32):
            if number not in (signal.SIGKILL, signal.SIGSTOP):
                signal.signal(number, signal.SIG_IGN)
        survive()

    fork_away(deaf)


def own_subreaper() -> None:
    """Collects orphans itself, so that they would not reach the supervisor."""

    def reaper() -> None:
        os.setsid()
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
        fork_away(lambda: fork_away(survive))
        survive()

    fork_away(reaper)


def stopped() -> None:
    """Stands still: it would not notice a polite signal."""
    subprocess.Popen(["/bin/sh", "-c", f"kill -STOP $$; exec sleep 600 # {MARK}-{TRICK}"])


def renamed() -> None:
    def renamed() -> None:
        ctypes.CDLL(None).prctl(15, b"kworker/0:1", 0, 0, 0)
        survive()

    fork_away(renamed)


def by_a_thread() -> None:
    thread = threading.Thread(target=background)
    thread.start()
    thread.join()


def deep_chain() -> None:
    """Twenty generations, each one's parent gone."""

    def next_one(left: int) -> None:
        if left == 0:
            survive()
        fork_away(lambda: next_one(left - 1))

    next_one(20)


def respawning() -> None:
    """Two that start each other anew whenever one dies."""
    text = (
        "import os, subprocess, sys, time\n"
        "while True:\n"
        "    child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)', sys.argv[1]])\n"
        "    child.wait()\n"
    )
    for _ in range(2):
        subprocess.Popen([sys.executable, "-c", text, f"{MARK}-{TRICK}"], start_new_session=True)


def many() -> None:
    for _ in range(60):
        subprocess.Popen(["/bin/sh", "-c", f"sleep 600 # {MARK}-{TRICK}"], start_new_session=True)


TRICKS = (
    background, own_session, double_fork, empty_environment, closed_descriptors, ignored_signals, own_subreaper,
    stopped, renamed, by_a_thread, deep_chain, respawning, many,
)  # fmt: skip

if __name__ == "__main__":
    {trick.__name__: trick for trick in TRICKS}[sys.argv[1]]()
    time.sleep(0.2)  # let the survivors settle, so that they really are there at the end
    print("left", flush=True)
