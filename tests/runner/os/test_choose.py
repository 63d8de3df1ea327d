"""How a machine's executor is chosen, as root and as an ordinary user, and that it bears many launches."""

from __future__ import annotations

import gc
import os
import sys
import threading
from pathlib import Path

from jobs_on_machine import PYTHON

import dstack
import dstack_runner
from dstack_runner.executors.base import Exit, Launch
from dstack_runner.executors.choose import Choice, choose
from dstack_runner.executors.process import ProcessExecutor

AS_A_USER = """
import os, sys
from pathlib import Path
from dstack_runner.executors.base import Launch
from dstack_runner.executors.choose import choose
choice = choose(Path("records"))
print(choice.executor.isolates, choice.users, choice.why_not)
argv = ("/bin/sh", "-c", "(setsid sleep 1000 &); sleep 0.1; id -u; exit 4")
sys.stdout.flush()
print(choice.executor.start(Launch(argv, {"PATH": os.defpath}, Path("/"), "inner"), 1).wait(20))
print(os.listdir("records"))
"""


def test_a_runner_without_root_works_and_says_why_it_does_not_isolate(isolated, workspace: Path, user) -> None:
    """The runner's code itself runs here as a job: nobody is less of a root than that."""
    sources = [Path(package.__path__[0]) for package in (dstack, dstack_runner)]
    env = {"PYTHONPATH": ":".join(str(path.parent) for path in sources), "PYTHONDONTWRITEBYTECODE": "1"}
    job = isolated((sys.executable, "-c", AS_A_USER), visible=(*PYTHON, *sources), env=env)
    assert job.end().is_success, job.text
    assert job.text.splitlines() == [
        "False None the runner does not run as root",
        str(user.uid),
        str(Exit(4, leftovers=1)),
        "[]",
    ]


def test_uids_that_cannot_be_used_are_an_answer_in_words(tmp_path: Path) -> None:
    choice = choose(tmp_path / "records", uids=[])
    assert (choice.users, choice.executor.isolates) == (None, False)
    assert "job users" in choice.why_not or "root" in choice.why_not


def test_isolation_can_be_turned_off(tmp_path: Path) -> None:
    choice = choose(tmp_path / "records", isolate=False)
    assert (choice.users, choice.executor.isolates, choice.why_not) == (None, False, "isolation is turned off")


def test_many_launches_at_once_leave_no_descriptor_and_no_record(isolating: Choice, records: Path) -> None:
    executor = isolating.executor
    ends: list[Exit | None] = []

    def run(number: int) -> None:
        ears, mouth = os.pipe()
        argv = ("/bin/sh", "-c", f"(setsid sleep 1000 &); exit {number}")
        running = executor.start(Launch(argv, {"PATH": os.defpath}, Path("/"), f"many-{number}"), mouth)
        os.close(mouth)
        ends.append(running.wait(60))
        assert os.read(ears, 10) == b""
        os.close(ears)

    gc.collect()  # what earlier tests left open is closed now, not between the two counts
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(2):
        threads = [threading.Thread(target=run, args=(number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(end.code for end in ends if end and end.code is not None) == sorted(2 * list(range(16)))
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert list(records.iterdir()) == []


def test_output_may_be_the_callers_own_standard_output(records: Path, capfd) -> None:
    executor = ProcessExecutor(records)
    launch = Launch(("/bin/echo", "to the terminal"), {}, Path("/"), "attempt")
    assert executor.start(launch, 1).wait(20) == Exit(0)
    assert capfd.readouterr().out == "to the terminal\n"
