"""When the runner dies, however hard, its jobs die with it; and what even that leaves, the next one sweeps away."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import small_runner
from jobs_on_machine import until

from dstack_runner import processes, sweep
from dstack_runner.executors import record
from dstack_runner.executors.base import MARK
from dstack_runner.users import UserPool

UID = 70_000 + os.getpid() % 20_000 * 4  # of this process of pytest alone


@pytest.fixture
def runner(tmp_path: Path):
    """Start a small runner over shell texts; answers it and the pids and uids of its jobs."""
    started: list[subprocess.Popen[bytes]] = []

    def runner(*texts: str, isolated: bool = False):
        kind = "isolated" if isolated else "plain"
        argv = [sys.executable, small_runner.__file__, str(tmp_path / "records"), kind, *texts]
        said = tmp_path / f"said-{len(started)}"
        with said.open("w") as file:
            process = subprocess.Popen(argv, stdout=file, stderr=subprocess.STDOUT)
        started.append(process)

        def lines(first: str) -> list[list[str]]:
            return [line.split() for line in said.read_text().splitlines() if line.startswith(first)]

        until(
            lambda: len(lines("pid ")) == len(lines("on")) == len(texts),
            lambda: f"it only said {said.read_text()!r}, exit {process.poll()}, {trees([(process.pid, 0)])}",
        )
        jobs = [(int(words[1]), int(words[2])) for words in lines("pid ")]
        return process, jobs

    yield runner
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def stray():
    """Start a sleeping process as a job would have left it."""
    started: list[subprocess.Popen[bytes]] = []

    def stray(env: dict[str, str] | None = None, uid: int | None = None) -> subprocess.Popen[bytes]:
        argv = ["/bin/sh", "-c", "echo on; exec sleep 600"]
        process = subprocess.Popen(
            argv, stdout=subprocess.PIPE, env={"PATH": os.defpath, **(env or {})}, user=uid, start_new_session=True
        )
        assert process.stdout
        assert process.stdout.readline() == b"on\n"
        started.append(process)
        return process

    yield stray
    for process in started:
        process.kill()
        process.communicate()


def trees(jobs: list[tuple[int, int]]) -> list[int]:
    parent_of = processes.parents()
    return [pid for job, _ in jobs for pid in [parent_of[job], job, *processes.below([job], parent_of)]]


@pytest.mark.parametrize("isolated", [False, True])
def test_killing_the_runner_kills_every_job_within_two_seconds(runner, isolated: bool) -> None:
    deaf = "trap '' TERM HUP INT; setsid sleep 600 & echo on; while :; do sleep 0.1; done"
    daemon = "(setsid sh -c 'setsid sleep 600 & sleep 600' &) ; sleep 0.1; echo on; sleep 600"
    process, jobs = runner(deaf, daemon, "echo on; sleep 600", isolated=isolated)
    pids = trees(jobs)
    assert len(pids) >= 9
    begun = time.monotonic()
    process.kill()
    until(lambda: not [pid for pid in pids if processes.start_time(pid)], "something of a job still lives", 5)
    assert time.monotonic() - begun < 2
    if isolated:
        uids = {uid for _, uid in jobs}
        assert not [pid for pid in processes.pids() if processes.owner(pid) in uids and processes.start_time(pid)]


def test_a_runner_that_leaves_quietly_takes_its_jobs_along_too(runner) -> None:
    process, jobs = runner("echo on; sleep 600")
    pids = trees(jobs)
    process.terminate()  # Python's default: no handler runs
    until(lambda: not [pid for pid in pids if processes.start_time(pid)], "something of a job still lives", 5)


def test_the_next_runner_learns_which_attempts_had_a_process(runner, tmp_path: Path) -> None:
    records = tmp_path / "records"
    process, jobs = runner("echo on; sleep 600", "echo on; sleep 600")
    process.kill()
    process.wait()
    assert sweep.sweep(records) == [f"{records}-0", f"{records}-1"]
    assert not [pid for job, _ in jobs for pid in [job] if processes.start_time(pid)]
    assert sweep.sweep(records) == []
    assert list(records.iterdir()) == []


def test_the_next_runner_kills_what_lost_its_supervisor_as_well(runner, tmp_path: Path) -> None:
    process, jobs = runner("setsid sleep 600 & sleep 0.1; echo on; sleep 600")
    pids = trees(jobs)
    os.kill(pids[0], signal.SIGSTOP)  # the supervisor cannot act while the runner dies,
    process.kill()
    process.wait()
    assert processes.start_time(pids[1])
    sweep.sweep(tmp_path / "records")  # and is killed itself, with all it led
    assert not [pid for pid in pids if processes.start_time(pid)]


def write(records: Path, scope: str, **fields) -> None:
    records.mkdir(exist_ok=True)
    record.Record(scope, **{"supervisor": 2**22 + 1, "started": 1, **fields}).write(
        records / f"{len(list(records.iterdir()))}.json"
    )


def test_strays_are_known_by_their_mark(stray, tmp_path: Path) -> None:
    ours, other = stray({MARK: str(tmp_path)}), stray({MARK: f"{tmp_path}-2"})
    write(tmp_path / "records", str(tmp_path))
    assert sweep.sweep(tmp_path / "records") == [str(tmp_path)]
    assert ours.wait(5) == -signal.SIGKILL
    assert other.poll() is None


@pytest.mark.parametrize("is_lent", [False, True])
def test_strays_are_known_by_their_user_unless_another_runner_has_it(stray, tmp_path: Path, is_lent: bool) -> None:
    """The lent one is a stranger's job by now: the dead runner's own would have been killed before it was lent."""
    pool, other = UserPool([UID], tmp_path / "uids"), UserPool([UID], tmp_path / "uids")
    lease = other.take() if is_lent else None
    process = stray(uid=UID)
    write(tmp_path / "records", str(tmp_path), uid=UID)
    sweep.sweep(tmp_path / "records", pool.clean)
    if lease:
        assert process.poll() is None
        lease.release()
    else:
        assert process.wait(5) == -signal.SIGKILL


def test_a_process_that_got_the_number_of_a_dead_supervisor_is_spared(stray, tmp_path: Path) -> None:
    innocent = stray()
    write(tmp_path / "records", str(tmp_path), supervisor=innocent.pid, started=1)
    sweep.sweep(tmp_path / "records")
    assert innocent.poll() is None


def test_a_sweep_never_ends_itself(tmp_path: Path) -> None:
    """A runner may be tested inside a job, and so carry the mark it looks for."""
    text = f"from dstack_runner import sweep; sweep.kill(sweep.Strays({str(tmp_path)!r})); print('alive')"
    env = {**os.environ, MARK: str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", text], env=env, capture_output=True, text=True, timeout=30)
    assert done.stdout == "alive\n", done.stderr


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"scope": "a"}', json.dumps({"scope": "a", "more": 1})])
def test_a_record_cut_short_is_passed_over(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    assert sweep.sweep(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_descendants_are_found_nearest_first() -> None:
    assert processes.below([1], {2: 1, 3: 2, 4: 1, 5: 9, 6: 3}) == [2, 4, 3, 6]
    assert processes.below([7], {7: 7}) == []


def test_a_zombie_is_no_living_process() -> None:
    child = subprocess.Popen(["true"])
    try:
        until(lambda: processes.start_time(child.pid) is None)
        assert child.pid not in processes.parents()
    finally:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(5)
