"""Nothing of a job survives its end, however it tries; and the end itself is told truly."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import escapes
import pytest
from jobs_on_machine import until

from dstack_runner import processes
from dstack_runner.executors.base import MARK, Exit, Limits, StartFailed
from dstack_runner.executors.process import _ROOT

TRICKS = [trick.__name__ for trick in escapes.TRICKS]


def survivors(trick: str, token: str) -> list[int]:
    mark = f"{escapes.MARK}-{trick}-{token}".encode()
    return [pid for pid in processes.pids() if mark in _command(pid) and processes.start_time(pid) is not None]


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@pytest.mark.parametrize("trick", TRICKS)
def test_no_trick_leaves_a_process_behind(start, trick: str, tmp_path: Path) -> None:
    job = start((sys.executable, escapes.__file__, trick, tmp_path.name))
    end = job.end()
    assert job.text == "left\n"
    assert end.is_success
    assert end.leftovers >= 1
    assert survivors(trick, tmp_path.name) == []


@pytest.mark.parametrize("trick", ["double_fork", "own_subreaper", "ignored_signals", "many"])
def test_no_trick_works_for_an_isolated_job_either(isolated, workspace: Path, trick: str) -> None:
    script = workspace / "escapes.py"
    script.write_text(Path(escapes.__file__).read_text())
    job = isolated((sys.executable, str(script), trick, workspace.parent.parent.name))
    end = job.end()
    assert end.leftovers >= 1, job.text
    assert survivors(trick, workspace.parent.parent.name) == []


def test_a_job_that_holds_its_output_open_does_not_hang_the_end(start) -> None:
    begun = time.monotonic()
    job = start("(setsid sleep 1000 &) ; echo on")
    assert job.end() == Exit(0, leftovers=1)
    assert time.monotonic() - begun < 5


def test_stop_reaches_the_whole_tree_and_leaves_it_time_to_finish(start) -> None:
    """The shell dies of TERM at once; what it started still gets the grace to write its checkpoint."""
    child = "import signal, sys, time\n"
    child += "def end(*_):\n    time.sleep(0.3); print('saved', flush=True); sys.exit(0)\n"
    child += "signal.signal(signal.SIGTERM, end); print('on', flush=True); time.sleep(1000)"
    job = start(("/bin/sh", "-c", '"$0" -c "$1"; echo never', sys.executable, child))
    job.says("on")
    job.running.stop(10)
    end = job.end()
    assert end == Exit(None, signal.SIGTERM)
    assert job.text == "on\nsaved\n"


def test_each_process_gets_term_once(start) -> None:
    child = "import signal, time\ncount = []\nsignal.signal(signal.SIGTERM, lambda *_: count.append(1))\n"
    child += "print('on', flush=True)\nend = time.monotonic() + 0.6\n"
    child += "while time.monotonic() < end: time.sleep(0.05)\nprint(len(count), flush=True)"
    job = start((sys.executable, "-c", child))
    job.says("on")
    job.running.stop(10)
    job.running.stop(9)
    assert job.end() == Exit(0)
    assert job.text == "on\n1\n"


def test_a_job_that_traps_interrupts_and_ignores_term_is_killed(start) -> None:
    job = start("trap '' TERM INT HUP QUIT; echo on; while :; do sleep 0.1; done")
    job.says("on")
    job.running.stop(0.3)
    assert job.end().signal == signal.SIGKILL


def test_a_fork_bomb_ends(start) -> None:
    """Short-lived forks in a ring of eight; unlike a full bomb it leaves the test machine usable."""
    text = f"# {uuid.uuid4()}\nimport os\nfor _ in range(3): os.fork()\nwhile True:\n    if os.fork(): os._exit(0)\n"
    job = start((sys.executable, "-c", text))
    job.end()
    mark = text.encode()
    assert not [pid for pid in processes.pids() if mark in _command(pid) and processes.start_time(pid)]


def test_a_fork_bomb_of_an_isolated_job_ends_and_is_bounded(isolated) -> None:
    text = f"# {uuid.uuid4()}\nimport os, time\nprint('on', flush=True)\n"
    text += "while True:\n    try: os.fork()\n    except OSError: time.sleep(0.05)\n"
    job = isolated((sys.executable, "-c", text), limits=Limits(pids=64))
    job.says("on")
    mark = text.encode()
    until(lambda: len([pid for pid in processes.pids() if mark in _command(pid)]) >= 50)
    job.running.stop(0)
    job.end()
    assert not [pid for pid in processes.pids() if mark in _command(pid) and processes.start_time(pid)]


def test_a_missing_program_is_the_jobs_failure_in_words(start) -> None:
    job = start(("no-such-program", "x"))
    assert job.end() == Exit(127)
    assert job.text == "dstack: cannot run no-such-program: No such file or directory\n"


def test_a_file_that_cannot_be_executed_is_126(start, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("echo hello")
    job = start((str(script),))
    assert job.end() == Exit(126)
    assert "Permission denied" in job.text


def test_a_missing_folder_is_a_failed_start_that_names_it(start, tmp_path: Path, records: Path) -> None:
    with pytest.raises(StartFailed, match="no-such-folder"):
        start("true", cwd=tmp_path / "no-such-folder")
    assert list(records.iterdir()) == []


def test_the_environment_is_the_launchs_alone(start, monkeypatch) -> None:
    monkeypatch.setenv("DSTACK_TOKEN", "secret-of-the-runner")
    job = start(("env",), env={"A": "1", "GREETING": "grüß dich\nzwei"}, scope="attempt-9")
    assert job.end().is_success
    lines = job.text.splitlines()
    assert {"A=1", "GREETING=grüß dich", "zwei", f"{MARK}=attempt-9"} <= set(lines)
    assert not [line for line in lines if line.startswith(("DSTACK_TOKEN", "PYTEST"))]


def test_secrets_are_in_no_command_line(start) -> None:
    job = start("echo on; sleep 1000", env={"SECRET": "canary-4711"})
    job.says("on")
    assert not [pid for pid in processes.pids() if b"canary-4711" in _command(pid)]


def test_a_big_launch_arrives_whole(start) -> None:
    job = start('printf %s "$BIG" | wc -c', env={"BIG": "x" * 100_000}, scope="a" * 300)
    assert job.end().is_success
    assert job.text.strip() == "100000"


def test_the_job_starts_with_plain_signals_and_no_stray_descriptors(start) -> None:
    job = start((sys.executable, "-c", "import os, signal; print(sorted(map(int, os.listdir('/proc/self/fd')))[:-1])"))
    assert job.end().is_success
    assert job.text.strip() == "[0, 1, 2]"
    job = start("grep SigIgn /proc/self/status")
    job.end()
    assert int(job.text.split()[1], 16) == 0


def test_a_closed_pipe_ends_a_job_as_on_any_terminal(start) -> None:
    job = start("yes | head -1; exit ${PIPESTATUS:-0}")
    assert job.end().is_success


def test_the_supervisor_imports_next_to_nothing() -> None:
    """Every launch pays for it: each of these would add milliseconds."""
    code = (
        f"import sys; sys.path.append({_ROOT!r}); import dstack_runner.supervise; "
        "print([name for name in ('typing', 're', 'enum', 'dataclasses', 'pathlib', 'json', 'signal', 'dstack')"
        " if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_it_hears_of_the_machines_shutdown(start) -> None:
    """init sends TERM to everybody: the job gets its grace, and the end is still told."""
    job = start("trap 'echo saving; exit 9' TERM; echo on; while :; do sleep 0.05; done")
    job.says("on")
    os.kill(processes.parents()[job.running.pid], signal.SIGTERM)
    assert job.end() == Exit(9)
    assert "saving" in job.text


def test_when_the_supervisor_is_killed_the_job_is_cleared_up_all_the_same(start, records: Path) -> None:
    job = start("setsid sleep 1000 & (setsid setsid sleep 1000 &) ; echo on; sleep 1000")
    job.says("on")
    tree = processes.below([job.running.pid], processes.parents())
    os.kill(processes.parents()[job.running.pid], signal.SIGKILL)
    end = job.end()
    assert end.signal == signal.SIGKILL
    assert end.leftovers >= 1
    assert [pid for pid in tree if processes.start_time(pid)] == []
    assert list(records.iterdir()) == []


def test_a_job_is_the_first_to_go_when_memory_runs_out(start) -> None:
    """The kernel takes the job, not the runner beside it."""
    job = start("cat /proc/self/oom_score_adj; sh -c 'cat /proc/self/oom_score_adj'")
    job.end()
    own = int(Path("/proc/self/oom_score_adj").read_text())
    assert [int(line) > own for line in job.text.split()] == [True, True]
