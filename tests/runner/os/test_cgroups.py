"""Memory and process limits by control groups: by table where they are, by real jobs that they hold."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from dstack_runner.cgroup import Cgroups, Group, Hierarchy, homes, settings
from dstack_runner.executors.base import Limits
from dstack_runner.executors.process import ProcessExecutor

MIB = 1024**2
EAT = "x = []\nfor _ in range(400): x.append(b'1' * 2**20)\nprint('ate it all')"


@pytest.fixture
def cgroups() -> Cgroups:
    return Cgroups.find()


def need(cgroups: Cgroups, controller: str) -> Cgroups:
    if controller not in cgroups.homes:
        pytest.skip(f"this machine lends no {controller} control group")
    return cgroups


@pytest.mark.parametrize(
    ("mounts", "own", "expected"),
    [
        pytest.param("", "", {}, id="none"),
        pytest.param(
            "cgroup {m}/memory cgroup rw,memory 0 0\ncgroup {m}/pids cgroup rw,pids 0 0\n",
            "4:memory:/jobs\n3:pids:/\n",
            {"memory": ("memory/jobs", 1), "pids": ("pids", 1)},
            id="version 1, below its own group",
        ),
        pytest.param(
            "cgroup2 {m}/v2 cgroup2 rw,nsdelegate 0 0\n",
            "0::/slice/runner.service\n",
            {"memory": ("v2/slice", 2), "pids": ("v2/slice", 2)},
            id="version 2, beside its own group",
        ),
        pytest.param(
            "cgroup2 {m}/v2 cgroup2 rw 0 0\n",
            "0::/\n",
            {"memory": ("v2", 2), "pids": ("v2", 2)},
            id="version 2, at the root",
        ),
        pytest.param(
            "cgroup2 {m}/v2 cgroup2 rw 0 0\ncgroup {m}/memory cgroup rw,memory 0 0\n",
            "4:memory:/of-the-host\n0::/\n",
            {"memory": ("memory", 1), "pids": ("v2", 2)},
            id="both, and a path from outside the container",
        ),
    ],
)
def test_where_groups_go(tmp_path: Path, mounts: str, own: str, expected: dict[str, tuple[str, int]]) -> None:
    for folder in ("memory/jobs", "pids", "v2/slice/runner.service"):
        (tmp_path / folder).mkdir(parents=True)
    found = homes(mounts.format(m=tmp_path), own)
    assert {name: (str(home.folder.relative_to(tmp_path)), home.version) for name, home in found.items()} == expected


def test_the_limits_are_spelled_by_version() -> None:
    assert settings("pids", 1, 5) == settings("pids", 2, 5) == [("pids.max", "5")]
    assert dict(settings("memory", 1, 7)) == {"memory.limit_in_bytes": "7", "memory.memsw.limit_in_bytes": "7"}
    assert dict(settings("memory", 2, 7))["memory.max"] == "7"


@pytest.mark.parametrize(
    ("version", "file", "text"),
    [
        (1, "memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"),
        (2, "memory.events", "oom 3\noom_kill 2\n"),
    ],
)
def test_deaths_by_memory_are_counted(tmp_path: Path, version: int, file: str, text: str) -> None:
    group = Group({"memory": Hierarchy(tmp_path, version)})
    assert group.oom_kills() == 0
    (tmp_path / file).write_text(text)
    assert group.oom_kills() == 2


def test_without_control_groups_nothing_is_limited_and_nothing_fails(start, records: Path) -> None:
    job = start("echo on", executor=ProcessExecutor(records, cgroups=Cgroups({})), limits=Limits(memory=MIB, pids=1))
    assert job.end().is_success


def test_a_job_over_its_memory_ends_out_of_memory(start, records: Path, cgroups: Cgroups) -> None:
    executor = ProcessExecutor(records, cgroups=need(cgroups, "memory"))
    job = start((sys.executable, "-c", EAT), executor=executor, limits=Limits(memory=100 * MIB))
    end = job.end()
    assert (end.signal, end.out_of_memory) == (signal.SIGKILL, True)
    assert "ate" not in job.text


def test_an_isolated_job_over_its_memory_ends_so_too(isolated, isolating) -> None:
    need(isolating.executor.cgroups, "memory")
    job = isolated((sys.executable, "-c", EAT), limits=Limits(memory=100 * MIB))
    assert job.end().out_of_memory


def test_memory_is_counted_over_all_its_processes(start, records: Path, cgroups: Cgroups) -> None:
    executor = ProcessExecutor(records, cgroups=need(cgroups, "memory"))
    argv = ("/bin/sh", "-c", '"$0" -c "$1"; echo code $?', sys.executable, EAT)
    job = start(argv, executor=executor, limits=Limits(memory=100 * MIB))
    end = job.end()
    assert job.text.endswith("code 137\n")
    assert (end.code, end.out_of_memory) == (0, True)


def test_within_its_memory_a_job_just_runs(start, records: Path, cgroups: Cgroups) -> None:
    executor = ProcessExecutor(records, cgroups=need(cgroups, "memory"))
    end = start((sys.executable, "-c", "x = b'1' * 2**20"), executor=executor, limits=Limits(memory=200 * MIB)).end()
    assert (end.code, end.out_of_memory) == (0, False)


def test_a_kill_from_elsewhere_is_not_called_out_of_memory(start, records: Path, cgroups: Cgroups) -> None:
    executor = ProcessExecutor(records, cgroups=need(cgroups, "memory"))
    end = start("kill -9 $$", executor=executor, limits=Limits(memory=200 * MIB)).end()
    assert (end.signal, end.out_of_memory) == (signal.SIGKILL, False)


def test_processes_are_bounded_for_a_job_without_a_user(start, records: Path, cgroups: Cgroups) -> None:
    executor = ProcessExecutor(records, cgroups=need(cgroups, "pids"))
    text = "import os\ntry:\n    [os.fork() or os.pause() for _ in range(50)]\nexcept OSError: print('bounded')"
    job = start(
        (sys.executable, "-c", text.replace("os.pause()", "__import__('signal').pause()")),
        executor=executor,
        limits=Limits(pids=20),
    )
    end = job.end()
    assert job.text == "bounded\n"
    assert 10 < end.leftovers < 20


def test_groups_are_gone_with_the_launch(start, records: Path, cgroups: Cgroups) -> None:
    executor = ProcessExecutor(records, cgroups=need(cgroups, "memory"))
    job = start("echo on; setsid sleep 600 & sleep 600", executor=executor, limits=Limits(memory=200 * MIB))
    job.says("on")
    mine = [home.folder / f"dstack-{path.stem}" for home in cgroups.homes.values() for path in records.iterdir()]
    assert all(folder.is_dir() for folder in mine)
    job.running.kill()
    job.end()
    assert not any(folder.exists() for folder in mine)


def test_a_failed_start_leaves_no_group(start, records: Path, cgroups: Cgroups, tmp_path: Path) -> None:
    executor = ProcessExecutor(records, cgroups=need(cgroups, "memory"))
    home = cgroups.homes["memory"].folder
    before = set(home.iterdir())
    with pytest.raises(Exception, match="no-such"):
        start("true", executor=executor, limits=Limits(memory=MIB), cwd=tmp_path / "no-such", scope=str(tmp_path))
    assert not [path for path in set(home.iterdir()) - before if tmp_path.name in path.name]
