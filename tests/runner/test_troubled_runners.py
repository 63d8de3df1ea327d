"""What happens to attempts when the server, the network or the runner fails: nothing is lost, nobody writes twice."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from runner_server import CLONE_TOKEN, REGISTRATION_TOKEN, FakeAttempt, FakeServer, until
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from tcp_proxy import TcpProxy

from dstack.wire.job import ArtifactSpec, Command, Job
from dstack.wire.states import AttemptState, Reason


def shell(text: str, **more: object) -> Job:
    return Job(commands=(Command(shell=text),), **more)


def ended(attempt: FakeAttempt, within_s: float = 30.0) -> FakeAttempt:
    until(lambda: attempt.finish is not None, within_s, f"{attempt.order.attempt} ends; its log: {attempt.text[-500:]}")
    return attempt


def is_alive(word: str) -> bool:
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = file.read_bytes()
        except OSError:
            continue
        if word.encode() in line.split(b"\0"):
            return True
    return False


def unique() -> str:
    return f"51536{time.time_ns() % 10**9}"


@pytest.fixture
def daemon(server: FakeServer, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Real `dstack-runner start` processes on one data folder."""
    started: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        seen = len(server.polls)
        env = {
            **os.environ, "DSTACK_SERVER": server.url, "DSTACK_TOKEN": REGISTRATION_TOKEN,
            "DSTACK_RUNNER_DATA": str(tmp_path / "data"), "DSTACK_RUNNER_NAME": "box", "XDG_CONFIG_HOME": str(tmp_path),
        }  # fmt: skip
        with (tmp_path / "daemon.log").open("ab") as log:
            started.append(subprocess.Popen([sys.executable, "-m", "dstack_runner", "start"], env=env, stderr=log))
        until(lambda: len(server.polls) > seen, what="the daemon polls")
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_a_server_that_is_away_costs_a_job_nothing(server: FakeServer, start_runner) -> None:
    sha = server.commit({"a": ""})
    start_runner()
    text = """for i in 1 2 3 4 5 6; do echo line $i; sleep 0.2; done
        mkdir m; echo w > m/w; echo '{"x": 1}' >> $DSTACK_METRICS"""
    attempt = server.put(shell(text, artifacts=(ArtifactSpec("m"),)), sha)
    until(lambda: "line 1" in attempt.text)
    server.stop()
    time.sleep(1.5)  # the job ends meanwhile
    assert attempt.finish is None
    server.start()
    ended(attempt)
    assert attempt.finish is not None and attempt.finish.state is AttemptState.SUCCEEDED, attempt.text
    assert attempt.text.startswith("".join(f"line {i}\n" for i in range(1, 7)))
    assert attempt.finish.log_bytes == len(attempt.log)
    assert [(p.name, p.value) for p in attempt.points] == [("x", 1.0)]
    assert list(attempt.artifacts) == ["m"]


def test_a_third_of_all_calls_failing_changes_no_result(server: FakeServer, start_runner) -> None:
    sha = server.commit({"a": ""})
    count = 0

    def flaky(request: Request) -> Response | None:
        nonlocal count
        count += 1
        if count % 3 == 0:
            return JSONResponse({"error": "unavailable", "message": "try later"}, 503)
        if count % 10 == 0:
            return JSONResponse({"error": "too_many", "message": "slower"}, 429, {"Retry-After": "0"})
        return None

    server.answer = flaky
    start_runner()
    attempts = [server.put(shell(f"echo job {n}; echo '{{\"n\": {n}}}' >> $DSTACK_METRICS"), sha) for n in range(2)]
    for number, attempt in enumerate(attempts):
        ended(attempt)
        assert attempt.text == f"job {number}\n"
        assert [p.value for p in attempt.points] == [number]
    server.answer = lambda _: None  # a runner that cannot say that it leaves sits its last poll out


def test_replies_that_get_lost_repeat_nothing(server: FakeServer, start_runner) -> None:
    """The call takes effect and its answer is lost: the repetition must change nothing."""
    sha = server.commit({"a": ""})
    lost: set[str] = set()
    routes = {"accept": server._accept, "log": server._log, "finish": server._finish, "metrics": server._metrics}

    def lose_first(name: str) -> Callable[[Request, bytes], object]:
        def handle(request: Request, body: bytes) -> object:
            result = routes[name](request, body)
            key = f"{name}{request.path_params['attempt']}"
            if key in lost:
                return result
            lost.add(key)
            return Response("gateway", status_code=502)

        return handle

    for name in routes:
        setattr(server, f"_{name}", lose_first(name))
    server.stop()
    server.start()
    start_runner()
    attempt = ended(server.put(shell("echo once; echo '{\"x\": 1}' >> $DSTACK_METRICS"), sha))
    until(lambda: attempt.finishes == 2)
    assert attempt.text == "once\n"
    assert len(attempt.points) == 1


def test_a_lost_lease_kills_the_job_and_writes_nothing_more(server: FakeServer, start_runner) -> None:
    sha = server.commit({"a": ""})
    running = start_runner(renew_every_s=1.0)
    word = unique()
    attempt = server.put(shell(f"trap '' TERM; echo up; sleep {word}; echo late"), sha)
    until(lambda: "up" in attempt.text and is_alive(word))
    began = time.monotonic()
    attempt.lost = True
    until(lambda: not is_alive(word))
    assert time.monotonic() - began < 3  # a renewal, and the kill
    until(lambda: not running.runner.live.names)
    assert attempt.finish is None
    assert "late" not in attempt.text
    assert ended(server.put(shell("echo next"), sha)).text == "next\n"  # the runner goes on


def test_a_log_refused_for_a_lost_lease_kills_at_once(server: FakeServer, start_runner) -> None:
    sha = server.commit({"a": ""})
    start_runner()
    word = unique()
    attempt = server.put(shell(f"(while :; do echo noise; sleep 0.05; done) & echo up; sleep {word}"), sha)
    until(lambda: "up" in attempt.text)
    attempt.lost = True
    until(lambda: not is_alive(word), 3)


def test_a_runner_that_slept_past_its_lease_stops_its_job_and_changes_nothing(server: FakeServer, daemon) -> None:
    sha = server.commit({"a": ""})
    process = daemon()
    word = unique()
    attempt = server.put(shell(f"(while :; do echo noise; sleep 0.1; done) & sleep {word}"), sha)
    until(lambda: "noise" in attempt.text and is_alive(word))
    process.send_signal(signal.SIGSTOP)
    attempt.lost = True  # its lease ran out: the job went to another runner
    kept = bytes(attempt.log)
    process.send_signal(signal.SIGCONT)
    until(lambda: not is_alive(word), 10)
    assert (bytes(attempt.log), attempt.finish) == (kept, None)
    assert ended(server.put(shell("echo next"), sha)).text == "next\n"


def test_a_killed_runner_takes_its_jobs_along_and_reports_them_at_its_next_start(server: FakeServer, daemon) -> None:
    sha = server.commit({"a": ""})
    process = daemon()
    word = unique()
    attempt = server.put(shell(f"echo up; (setsid sleep {word} &); trap '' TERM; sleep {word}"), sha)
    until(lambda: "up" in attempt.text and is_alive(word))
    process.send_signal(signal.SIGKILL)
    process.wait()
    until(lambda: not is_alive(word), 3, "the job dies with its runner")
    daemon()
    ended(attempt)
    assert attempt.finish is not None
    assert (attempt.finish.state, attempt.finish.reason) == (AttemptState.LOST, Reason.RUNNER_LOST)
    assert attempt.text == "up\n"
    assert len(server.registrations) == 1  # its own credential is used again
    assert ended(server.put(shell("echo next"), sha)).text == "next\n"


def test_the_rest_of_a_log_is_sent_after_a_kill(server: FakeServer, daemon, tmp_path: Path) -> None:
    sha = server.commit({"a": ""})
    process = daemon()
    attempt = server.put(shell("echo one; sleep 0.5; echo two; sleep 60"), sha)
    until(lambda: "one" in attempt.text)
    server.stop()
    spool = tmp_path / "data" / "spool" / f"{attempt.order.attempt}.log"
    until(lambda: b"two" in spool.read_bytes())
    process.kill()
    process.wait()
    server.start()
    daemon()
    ended(attempt)
    assert attempt.text == "one\ntwo\n"
    until(lambda: not spool.exists())


def test_term_drains_and_a_second_one_stops(server: FakeServer, daemon) -> None:
    sha = server.commit({"a": ""})
    process = daemon()
    patient = server.put(shell("echo up; sleep 1; echo done"), sha)
    until(lambda: "up" in patient.text)
    process.send_signal(signal.SIGTERM)
    until(lambda: server.polls[-1].draining)
    later = server.put(shell("echo never"), sha)
    assert process.wait(20) == 0
    assert ended(patient).finish is not None and patient.text == "up\ndone\n"
    assert not later.accepted

    process = daemon()
    until(lambda: later.finish)
    endless = server.put(shell("echo up; sleep 600"), sha)
    until(lambda: "up" in endless.text)
    process.send_signal(signal.SIGTERM)
    until(lambda: server.polls[-1].draining)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert ended(endless).finish is not None
    assert endless.finish is not None and endless.finish.state is AttemptState.PREEMPTED


def test_an_idle_runner_leaves_at_once(server: FakeServer, daemon) -> None:
    process = daemon()
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    assert time.monotonic() - began < 5


def test_a_runner_the_server_forgot_says_so_and_stops(server: FakeServer, start_runner) -> None:
    running = start_runner()
    server.runner_token = "another"
    server.put(shell("true"), "0" * 40)  # ends the poll that waits
    until(lambda: running.error is not None)
    assert "no longer knows this runner" in str(running.error)


def test_a_server_of_another_age_is_left_with_its_words(server: FakeServer, start_runner) -> None:
    server.answer = lambda request: JSONResponse(
        {"error": "unsupported_version", "message": "this server speaks protocol 9, the runner 1"}, 426
    )
    running = start_runner(wait=False)
    until(lambda: running.error is not None)
    assert "protocol 9" in str(running.error)


def test_a_start_without_a_token_says_what_to_do(server: FakeServer, tmp_path: Path) -> None:
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "DSTACK_SERVER": server.url,
        "DSTACK_RUNNER_DATA": str(tmp_path / "d"),
    }
    done = subprocess.run([sys.executable, "-m", "dstack_runner", "start"], env=env, capture_output=True, text=True)
    assert done.returncode == 4
    assert "DSTACK_TOKEN" in done.stderr and "Traceback" not in done.stderr


def test_two_runners_do_not_share_a_folder(server: FakeServer, daemon, tmp_path: Path) -> None:
    process = daemon()
    env = {
        **os.environ,
        "DSTACK_SERVER": server.url,
        "DSTACK_RUNNER_DATA": str(tmp_path / "data"),
        "XDG_CONFIG_HOME": str(tmp_path),
        "DSTACK_RUNNER_NAME": "box",
    }
    words = [sys.executable, "-m", "dstack_runner"]
    done = subprocess.run([*words, "start"], env=env, capture_output=True, text=True)
    assert done.returncode == 1 and "another runner uses" in done.stderr
    done = subprocess.run([*words, "status", "--json"], env=env, capture_output=True, text=True)
    facts = json.loads(done.stdout)
    assert (done.returncode, facts["process"], facts["registered"]) == (0, process.pid, True)


@pytest.mark.parametrize("is_lost", [False, True])
def test_a_stop_ends_a_fetch_that_would_take_long(
    server: FakeServer, start_runner, monkeypatch: pytest.MonkeyPatch, is_lost: bool
) -> None:
    monkeypatch.setattr("tcp_proxy.CHUNK", 4096)
    come: list[int] = []
    proxy = TcpProxy(
        ("127.0.0.1", int(server.url.rpartition(":")[2])),
        lambda number, way, data: come.append(len(data)) if way == "down" else None,
    ).start()
    sha = server.commit({"big": os.urandom(8_000_000)})
    running = start_runner(server=proxy.url, renew_every_s=0.5)
    proxy.delay_s = 0.02
    attempt = server.put(shell("true"), sha)
    until(lambda: sum(come) > 100_000, what="the pack is on its way")
    began = time.monotonic()
    if is_lost:
        attempt.lost = True
    else:
        server.ask_stop(attempt)
    until(lambda: not running.runner.live.names)
    assert time.monotonic() - began < 5
    assert CLONE_TOKEN not in attempt.text
    if is_lost:
        assert attempt.finish is None
    else:
        assert attempt.finish is not None
        assert (attempt.finish.state, attempt.finish.reason) == (AttemptState.STOPPED, Reason.CANCELED_BY)
    proxy.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 40 MB for the runner's data."""
    folder = tmp_path / "runner"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m,mode=0700", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize(
    "text", ["head -c 80000000 /dev/zero | tr '\\0' x", "dd if=/dev/zero of=big bs=1M count=80 status=none"]
)
def test_a_full_disk_is_the_machines_fault_and_the_runner_stays(
    server: FakeServer, small_disk: Path, start_runner, text: str
) -> None:
    sha = server.commit({"a": ""})
    start_runner()
    attempt = ended(server.put(shell(text), sha))
    assert attempt.finish is not None
    assert (attempt.finish.state, attempt.finish.reason) == (AttemptState.FAILED, Reason.DISK_FULL)
    assert attempt.finish.machine_fault
    assert attempt.finish.log_bytes == len(attempt.log)
    assert list((small_disk / "attempts").iterdir()) == []
    until(lambda: shutil.disk_usage(small_disk).free > 20_000_000, what="room is made")
    assert ended(server.put(shell("echo next"), sha)).text == "next\n"


def test_a_disk_that_is_full_beforehand_is_told_at_once(server: FakeServer, small_disk: Path, start_runner) -> None:
    sha = server.commit({"a": ""})
    start_runner()
    with pytest.raises(OSError, match="No space"), (small_disk / "filler").open("wb", buffering=0) as filler:
        while True:
            filler.write(bytes(4096))
    attempt = ended(server.put(shell("true"), sha), 10)
    assert attempt.accepted and attempt.finish is not None
    assert (attempt.finish.state, attempt.finish.reason) == (AttemptState.FAILED, Reason.DISK_FULL)
    assert attempt.finish.machine_fault
    (small_disk / "filler").unlink()
    assert ended(server.put(shell("echo next"), sha)).text == "next\n"


def test_no_place_for_the_log_is_told_at_once(server: FakeServer, start_runner, tmp_path: Path) -> None:
    sha = server.commit({"a": ""})
    start_runner()
    spools = tmp_path / "runner" / "spool"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "nr_inodes=1,mode=0700", "tmpfs", str(spools)], check=True)
    try:
        attempt = ended(server.put(shell("true"), sha), 10)
    finally:
        subprocess.run(["umount", "-l", str(spools)], check=True)
    assert attempt.finish is not None
    assert (attempt.finish.state, attempt.finish.reason) == (AttemptState.FAILED, Reason.DISK_FULL)
    assert attempt.finish.machine_fault
    assert ended(server.put(shell("echo next"), sha)).text == "next\n"
