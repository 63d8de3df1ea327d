"""What an isolated job sees and may touch: by tables for the plan, by real jobs for the rest."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest
from jobs_on_machine import PYTHON

from dstack_runner.executors.base import JobUser, Launch, Limits, Mount, StartFailed
from dstack_runner.executors.choose import Choice
from dstack_runner.isolation import Need, closed_above, plan, view

TMP = ("cover", "/tmp", "1777", True)


def cover(path: str) -> tuple[str, str, str, bool]:
    return ("cover", path, "0755", True)


def bind(path: str, writable: bool = False) -> tuple[str, str, str, bool]:
    return ("bind", path, path, writable)


@pytest.mark.parametrize(
    ("needs", "covers", "steps"),
    [
        pytest.param([Need("/usr")], [], [], id="what is open needs nothing"),
        pytest.param([Need("/root/py")], ["/root"], [cover("/root"), bind("/root/py")], id="closed home"),
        pytest.param([Need("/root/ws", True)], ["/root"], [cover("/root"), bind("/root/ws", True)], id="writable"),
        pytest.param(
            [Need("/d/ws", True), Need("/d/ws/src", True)],
            ["/d"],
            [cover("/d"), bind("/d/ws", True)],
            id="a folder shows with all below it",
        ),
        pytest.param(
            [Need("/d/env"), Need("/d/env/cache", True)],
            ["/d"],
            [cover("/d"), bind("/d/env"), bind("/d/env/cache", True)],
            id="a writable folder in one for reading",
        ),
        pytest.param(
            [Need("/d/ws"), Need("/d/ws", True)], ["/d"], [cover("/d"), bind("/d/ws", True)], id="named twice: writable"
        ),
        pytest.param(
            [Need("/root/data/ws", True)],
            ["/root", "/root/data"],
            [cover("/root"), bind("/root/data/ws", True)],
            id="a cover in a cover is none",
        ),
        pytest.param(
            [Need("/d"), Need("/d/secret/ws", True)],
            ["/d", "/d/secret"],
            [cover("/d"), bind("/d"), cover("/d/secret"), bind("/d/secret/ws", True)],
            id="a cover in what shows",
        ),
        pytest.param(
            [Need("/root/rel/1", links=(("/root/now", "rel/1"), ("/opt/now", "/root/now")))],
            ["/root"],
            [cover("/root"), ("link", "/root/now", "rel/1", False), bind("/root/rel/1")],
            id="links that were covered are laid again",
        ),
    ],
)
def test_the_plan(needs: list[Need], covers: list[str], steps: list[tuple[str, str, str, bool]]) -> None:
    assert plan(needs, covers) == steps


def test_what_is_needed_below_tmp_shows_in_the_jobs_own() -> None:
    assert plan([Need("/tmp/data/ws", True)], ["/tmp/data"], [TMP]) == [TMP, bind("/tmp/data/ws", True)]


def test_closed_folders_are_those_the_user_cannot_walk_through(tmp_path: Path) -> None:
    mine, closed, group = tmp_path / "mine", tmp_path / "closed", tmp_path / "group"
    for folder, mode in ((mine, 0o700), (closed, 0o700), (group, 0o710)):
        folder.mkdir(mode=mode)
    os.chown(mine, 61001, 61001)
    os.chown(group, 0, 61001)
    found = closed_above([str(folder / "x") for folder in (mine, closed, group)], JobUser(61001, 61001))
    assert [path for path in found if path.startswith(f"{tmp_path}/")] == [str(closed)]


def test_it_runs_python_as_a_user_of_its_own_in_its_workspace(isolated, user: JobUser, workspace: Path) -> None:
    text = (
        "import os, ssl, sqlite3; print(os.getresuid(), os.getresgid(), os.getgroups(), os.getcwd()); open('made', 'w')"
    )
    job = isolated((sys.executable, "-c", text))
    assert job.end().is_success, job.text
    assert job.text.strip() == f"{(user.uid,) * 3} {(user.gid,) * 3} [] {workspace}"
    assert (workspace / "made").stat().st_uid == user.uid


def test_it_reads_neither_the_runners_data_nor_another_jobs_workspace(
    isolated, tmp_path: Path, workspace: Path
) -> None:
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents:  # even if every folder on the way were open to all
        if parent.owner() == "root" and parent != Path("/") and parent.name.startswith("pytest"):
            parent.chmod(0o755)
    token, other = tmp_path / "token", tmp_path / "workspaces" / "other"
    token.write_text("canary")
    other.mkdir()
    (other / "model").write_text("canary")
    (other.parent / "loose").write_text("canary")
    job = isolated(f"cat {token} {other}/model {other.parent}/loose; ls {tmp_path} {tmp_path}/workspaces; ls -A /root")
    job.end()
    assert "canary" not in job.text
    listing = [line for line in job.text.splitlines() if "No such file" not in line]
    assert "other" not in listing
    assert "token" not in listing
    assert "one" in listing  # its own


def test_it_may_not_write_what_is_only_visible(isolated, tmp_path: Path, user: JobUser) -> None:
    env = tmp_path / "env"
    env.mkdir(mode=0o777)
    os.chown(env, user.uid, user.gid)  # not even with the right to
    job = isolated(f"echo bad > {env}/x", visible=(*PYTHON, env))
    assert job.end().code != 0
    assert "Read-only" in job.text
    assert list(env.iterdir()) == []


def test_a_link_on_the_way_works_inside_too(isolated, tmp_path: Path) -> None:
    (tmp_path / "envs" / "1").mkdir(parents=True)
    (tmp_path / "envs" / "1" / "file").write_text("through")
    (tmp_path / "now").symlink_to("envs/1")
    job = isolated(f"cat {tmp_path}/now/file", visible=(*PYTHON, tmp_path / "now"))
    assert job.end().is_success, job.text
    assert job.text == "through"


def test_mounts_show_for_the_job_alone(isolated, tmp_path: Path, workspace: Path, user: JobUser) -> None:
    source, cache = tmp_path / "blobs", tmp_path / "cache"
    for folder in (source, cache):
        folder.mkdir()
        (folder / "file").write_text("content")
        os.chown(folder, user.uid, user.gid)
    (workspace / "data").mkdir()
    (workspace / ".cache").mkdir()
    mounts = (Mount(source, workspace / "data"), Mount(cache, workspace / ".cache", writable=True))
    job = isolated("cat data/file; echo more > .cache/new && ! echo bad > data/new", mounts=mounts)
    assert job.end().is_success, job.text
    assert job.text.startswith("content")
    assert list((workspace / "data").iterdir()) == []
    assert sorted(path.name for path in cache.iterdir()) == ["file", "new"]
    assert [path.name for path in source.iterdir()] == ["file"]
    assert str(workspace) not in Path("/proc/self/mounts").read_text()


def test_a_file_can_be_mounted(isolated, tmp_path: Path, workspace: Path) -> None:
    (tmp_path / "passwd").write_text("somebody:x:61000:61000::/:/bin/sh\n")
    job = isolated("cat /etc/passwd", mounts=(Mount(tmp_path / "passwd", Path("/etc/passwd")),))
    assert job.end().is_success
    assert job.text.startswith("somebody")
    assert "root" in Path("/etc/passwd").read_text()


def test_a_mount_over_a_link_laid_by_the_job_is_refused(isolated, tmp_path: Path, workspace: Path) -> None:
    (workspace / "data").symlink_to("/etc")
    with pytest.raises(StartFailed, match="symbolic link"):
        isolated("true", mounts=(Mount(tmp_path, workspace / "data" / "ssl"),))


def test_what_one_job_leaves_on_the_machine_the_next_does_not_see(isolated, tmp_path: Path) -> None:
    """A fresh home is the caller's gift; everything a job can write to by itself is gone with it."""
    places = (
        "/tmp/x",
        "/var/tmp/x",
        "/dev/shm/x",
        "/run/lock/x",
        "/etc/cron.d/x",
        "/var/spool/cron/x",
        "/root/.bashrc",
    )
    before = {place: Path(place).exists() for place in places}
    first = isolated(f"for f in {' '.join(places)}; do echo left > $f; done; ls /tmp/x /var/tmp/x /dev/shm/x")
    first.end()
    assert first.text.splitlines()[-3:] == ["/dev/shm/x", "/tmp/x", "/var/tmp/x"]
    second = isolated(f"cat {' '.join(places)}; ls -A /tmp /var/tmp /dev/shm /run/lock")
    second.end()
    assert "left" not in second.text
    assert "x" not in second.text.splitlines()
    assert {place: Path(place).exists() for place in places} == before


def test_its_tmp_can_be_a_folder_on_disk_kept_over_its_launches(isolated, tmp_path: Path) -> None:
    tmp = tmp_path / "attempt-tmp"
    tmp.mkdir()
    tmp.chmod(0o1777)
    assert isolated("echo kept > /tmp/x", tmp=tmp).end().is_success
    job = isolated("cat /tmp/x /var/tmp/x", tmp=tmp)
    assert job.end().is_success
    assert job.text == "kept\nkept\n"
    assert (tmp / "x").read_text() == "kept\n"


def test_shared_memory_of_a_job_ends_with_it(isolated) -> None:
    key = 0x4711_0000 + os.getpid() % 0x10000
    text = (
        f"import ctypes; print(ctypes.CDLL(None).shmget({key}, 4096, 0o1600)); print(open('/proc/sysvipc/shm').read())"
    )
    job = isolated((sys.executable, "-c", text))
    assert job.end().is_success
    assert str(key) in job.text
    assert str(key) not in Path("/proc/sysvipc/shm").read_text()


def test_it_gains_no_rights(isolated) -> None:
    job = isolated("grep -E 'NoNewPrivs|CapEff|CapPrm' /proc/self/status; kill -9 1; echo $?")
    job.end()
    assert "NoNewPrivs:\t1" in job.text
    assert "CapEff:\t0000000000000000" in job.text
    assert "CapPrm:\t0000000000000000" in job.text
    assert not job.text.endswith("\n0\n")


def test_it_cannot_kill_its_supervisor(isolated) -> None:
    job = isolated("kill -9 $PPID; echo $?")
    assert job.end().is_success
    assert job.text.strip().endswith("1")


def test_the_processes_of_a_job_have_a_bound(isolated) -> None:
    job = isolated("ulimit -a 2>/dev/null; grep 'Max processes' /proc/self/limits", limits=Limits(pids=100))
    assert job.end().is_success
    assert job.text.splitlines()[-1].split()[2:4] == ["100", "100"]


def test_two_users_cannot_touch_each_other(isolated, start, isolating: Choice, user: JobUser) -> None:
    assert isolating.users
    with isolating.users.lent() as second:
        assert second.uid != user.uid
        job = isolated("echo on; sleep 1000")
        job.says("on")
        other = start(
            f"kill -9 {job.running.pid}; cat /proc/{job.running.pid}/environ", executor=isolating.executor, user=second
        )
        assert not other.end().is_success
        assert "DSTACK" not in other.text
        assert job.running.wait(0) is None


def test_it_still_reaches_the_network(isolated) -> None:
    """Isolation is of files and processes; training jobs talk to registries and to each other."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        text = f"import socket; socket.create_connection(('127.0.0.1', {port})); print('met')"
        job = isolated((sys.executable, "-c", text))
        assert job.end().is_success, job.text


def test_isolation_is_not_promised_where_there_is_none(start, user: JobUser) -> None:
    with pytest.raises(StartFailed, match="cannot isolate"):
        start("true", user=user)


def test_a_launch_that_names_what_is_not_there_fails_to_start(tmp_path: Path) -> None:
    launch = Launch(("true",), {}, Path("/"), "a", JobUser(61000, 61000), writable=(tmp_path / "none",))
    with pytest.raises(StartFailed, match="none"):
        view(launch)
