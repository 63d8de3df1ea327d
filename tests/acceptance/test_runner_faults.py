"""Runners die, freeze and lose the network; jobs misbehave: one attempt counts, and nothing of a job survives it."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from history import log_of
from installation import Repository, Site
from machines import until

from dstack_runner.cgroup import Cgroups

MakeSite = Callable[..., Site]
MakeTree = Callable[..., Repository]
LEASE_S = 3


def processes_with(word: str) -> list[int]:
    """Living processes whose command line has the word."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            line = (entry / "cmdline").read_bytes()
            is_dead = (entry / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except (OSError, IndexError):
            continue
        if word.encode() in line and not is_dead and entry.name != str(os.getpid()):
            found.append(int(entry.name))
    return found


@pytest.fixture
def word() -> Iterator[str]:
    """A number of seconds that no other process sleeps, so that a job's processes are known by it."""
    chosen = f"31{time.time_ns() % 10**7}"
    yield chosen
    assert processes_with(chosen) == []


def test_a_killed_runner_loses_the_attempt_and_another_does_the_job(
    make_site: MakeSite, repository: MakeTree, word: str
) -> None:
    """F4: the job's processes die with their runner; the job is queued again when the lease is over."""
    site = make_site(lease_s=LEASE_S)
    first = site.runner("a")
    commands = f"""
        echo up $DSTACK_ATTEMPT
        if [ $DSTACK_ATTEMPT = 1 ]; then (setsid sleep {word} &) ; sleep {word}; fi
        mkdir out; echo $DSTACK_ATTEMPT > out/x
    """
    name = repository(site).push_workflow(commands, "artifacts: [out]")
    site.until_logged(name, "up 1")
    until(lambda: len(processes_with(f"sleep\0{word}")) == 2, 10, "the job sleeps")
    first.kill()
    until(lambda: not processes_with(word), 10, "the job's processes have died with their runner")
    site.runner("b")
    run = site.wait(name, 30)
    assert (run["state"], run["jobs"][0]["attempt"], run["jobs"][0]["runner"]) == ("succeeded", 2, "b")
    states = [(a["state"], a["reason"], a["runner_name"]) for a in site.attempts(name)]
    assert states == [("lost", "runner_lost", "a"), ("succeeded", None, "b")]
    site.assert_sound()


def test_a_runner_started_again_reports_its_lost_attempt_at_once(
    make_site: MakeSite, repository: MakeTree, word: str
) -> None:
    """F5: the lease is 60 s here; nobody has to wait for its end. What the log still held arrives."""
    site = make_site()
    runner = site.runner("a", url=site.proxy().url)
    name = repository(site).push_workflow(f"echo up $DSTACK_ATTEMPT; test $DSTACK_ATTEMPT = 2 || sleep {word}")
    site.until_logged(name, "up 1")
    runner.kill()
    runner.spawn()
    run = site.wait(name, 30)
    assert (run["state"], run["jobs"][0]["attempt"]) == ("succeeded", 2)
    lost, _ = site.attempts(name)
    assert (lost["state"], lost["reason"]) == ("lost", "runner_lost")
    assert log_of(site.server.data, lost["id"]) == b"up 1\n"
    site.assert_sound()


def test_a_job_whose_runners_always_die_fails_after_its_retries(
    make_site: MakeSite, repository: MakeTree, word: str
) -> None:
    """F50."""
    site = make_site()
    runner = site.runner("a")
    name = repository(site).push_workflow(f"echo up $DSTACK_ATTEMPT; sleep {word}", "retry: 1")
    for number in (1, 2):
        site.until_logged(name, f"up {number}")
        runner.kill()
        runner.spawn()
    run = site.wait(name, 30)
    assert (run["state"], run["reason"], run["jobs"][0]["attempt"]) == ("failed", "runner_lost", 2)
    assert runner.is_running
    site.assert_sound()


def test_a_frozen_runner_wakes_up_as_a_zombie_and_is_refused(
    make_site: MakeSite, repository: MakeTree, word: str
) -> None:
    """F6, F7: attempt 2 runs elsewhere when the first runner continues: what it says counts no more."""
    site = make_site(lease_s=LEASE_S)
    zombie = site.runner("a", url=site.proxy().url)
    tree = repository(site)
    commands = f"""
        echo "attempt $DSTACK_ATTEMPT"; mkdir out; echo $DSTACK_ATTEMPT > out/x
        if [ $DSTACK_ATTEMPT = 1 ]; then (while :; do echo zombie; sleep 0.2; done) & exec sleep {word}; fi
        while [ ! -e {tree.path}/go ]; do sleep 0.1; done
    """
    name = tree.push_workflow(commands, "artifacts: [{path: out, when: always}]")
    site.until_logged(name, "zombie")
    zombie.send(signal.SIGSTOP)
    site.runner("b", DSTACK_RUNNER_ISOLATE="no")  # sees the file that lets it go on
    site.until_logged(name, "attempt 2")
    stale = site.attempts(name)[0]
    size = len(log_of(site.server.data, stale["id"]))
    zombie.send(signal.SIGCONT)
    until(lambda: not processes_with(f"sleep\0{word}"), 10, "the zombie has killed its job")
    site.until_online("a")
    refused = [call for call in site.heard.calls if call.attempt == stale["id"] and call.status == 409]
    assert refused or "lease lost" in zombie.text
    assert len(log_of(site.server.data, stale["id"])) == size
    (tree.path / "go").touch()
    run = site.wait(name)
    assert (run["state"], run["jobs"][0]["attempt"], run["jobs"][0]["runner"]) == ("succeeded", 2, "b")
    assert [a["path"] for a in run["jobs"][0]["artifacts"]] == ["out"]
    again = tree.push_workflow("echo fit again")
    assert site.wait(again)["state"] == "succeeded"
    site.assert_sound()


COUNT = 'for n in $(seq 1 {count}); do echo "step $n"; sleep 0.1; done'


@pytest.mark.parametrize("way", ["cut", "deaf"])
def test_a_network_gone_for_less_than_a_lease_is_not_noticed(
    make_site: MakeSite, repository: MakeTree, way: str
) -> None:
    """F8: by resets, and as a black hole in which everything hangs."""
    site = make_site(lease_s=8)
    proxy = site.proxy()
    site.runner(url=proxy.url)
    name = repository(site).push_workflow(COUNT.format(count=40))
    site.until_logged(name, "step 2\n")
    proxy.cut() if way == "cut" else proxy.deafen()
    time.sleep(2)  # the outage itself
    proxy.mend()
    run = site.wait(name)
    assert (run["state"], run["jobs"][0]["attempt"]) == ("succeeded", 1)
    assert site.log(name).decode().splitlines() == [f"step {n}" for n in range(1, 41)]
    site.assert_sound()


def test_a_network_gone_for_more_than_a_lease_ends_the_attempt_and_not_the_runner(
    make_site: MakeSite, repository: MakeTree, word: str
) -> None:
    """F9: the server gave the lease away; the runner learns so by its first answer and ends the job."""
    site = make_site(lease_s=LEASE_S)
    proxy = site.proxy()
    site.runner("a", url=proxy.url)
    name = repository(site).push_workflow(f"echo up $DSTACK_ATTEMPT; test $DSTACK_ATTEMPT = 2 || sleep {word}")
    site.until_logged(name, "up 1")
    proxy.cut()
    until(lambda: site.attempts(name)[0]["state"] == "lost", 15, "the lease has run out")
    assert processes_with(word)  # nobody has told the runner yet
    proxy.mend()
    until(lambda: not processes_with(word), 10, "the runner has heard it")
    run = site.wait(name)
    assert (run["state"], run["jobs"][0]["attempt"]) == ("succeeded", 2)
    site.assert_sound()


def test_a_slow_network_does_not_starve_the_lease(make_site: MakeSite, repository: MakeTree) -> None:
    """F12."""
    site = make_site(lease_s=4)
    proxy = site.proxy()
    site.runner(url=proxy.url)
    proxy.delay_s = 0.3
    name = repository(site).push_workflow(
        "head -c 3000000 /dev/urandom | base64; mkdir out; head -c 3000000 /dev/urandom > out/x", "artifacts: [out]"
    )
    run = site.wait(name, 90)
    proxy.delay_s = 0
    assert (run["state"], run["jobs"][0]["attempt"]) == ("succeeded", 1)
    site.assert_sound()


def test_a_runner_killed_while_it_saves_leaves_nothing_half_visible(make_site: MakeSite, repository: MakeTree) -> None:
    """F42: the upload is cut in its middle, the runner dies, and the next attempt saves all of it."""
    site = make_site()
    proxy = site.proxy()
    runner = site.runner("a", url=proxy.url)
    make = "mkdir out; for n in $(seq 40); do head -c 1000000 /dev/urandom > out/$n; done; cat out/* | sha256sum"
    tree = repository(site)
    proxy.delay_s = 0.05
    name = tree.push_workflow(make, "artifacts: [out]")
    until(lambda: site.heard.of("missing"), 30, "it saves")
    site.until_state(name, "saving")
    runner.kill()
    assert site.run(name)["jobs"][0]["artifacts"] == []
    assert site.ledger.rows("SELECT * FROM artifacts") == []
    proxy.delay_s = 0
    runner.spawn()
    run = site.wait(name, 60)
    assert (run["state"], run["jobs"][0]["attempt"], run["jobs"][0]["artifacts"][0]["files"]) == ("succeeded", 2, 40)
    place = tree.path / "fetched"
    site.cli("artifacts", name, "--download", str(place), cwd=tree.path)
    whole = b"".join(path.read_bytes() for path in sorted((place / "out").iterdir()))
    assert hashlib.sha256(whole).hexdigest() in site.log(name).decode()
    site.assert_sound()


def test_a_job_deaf_to_term_with_hidden_children_is_gone_after_its_grace(
    shared: Site, repository: MakeTree, word: str
) -> None:
    """F35, F36, I7."""
    deaf = f"""
        trap '' TERM INT HUP
        (setsid env -i sh -c "trap '' TERM; (sleep {word} &) ; exec sleep {word}" &)
        echo up; while :; do sleep {word} || true; done
    """
    name = repository(shared).push_workflow(deaf, "stop-grace: 1s")
    shared.until_logged(name, "up")
    until(lambda: len(processes_with(f"sleep\0{word}")) >= 3, 10, "all of them live")
    begun = time.monotonic()
    shared.cli("stop", name)
    run = shared.wait(name)
    assert (run["state"], run["reason"]) == ("stopped", "canceled_by")
    assert time.monotonic() - begun < 1 + 5 + 3  # grace, I7's five seconds, and a busy machine
    assert processes_with(word) == []


def test_a_daemon_that_holds_the_output_open_does_not_hold_the_job(
    shared: Site, repository: MakeTree, word: str
) -> None:
    """F36."""
    begun = time.monotonic()
    name = repository(shared).push_workflow(f"(setsid sleep {word} &) ; (sleep {word} & disown); echo done")
    run = shared.wait(name)
    assert run["state"] == "succeeded"
    assert time.monotonic() - begun < 10
    assert processes_with(word) == []
    assert shared.log(name).startswith(b"done\n")


def test_a_job_over_its_memory_fails_as_such_and_its_runner_lives(shared: Site, repository: MakeTree) -> None:
    """F38."""
    if "memory" not in Cgroups.find().homes:
        pytest.skip("this machine lends no memory control group")
    tree = repository(shared)
    eat = "python3 -c \"x = [b'1' * 2**20 for _ in range(600)]; print('ate it')\""
    name = tree.push_workflow(eat, "resources: {memory: 200MB}")
    run = shared.wait(name)
    assert (run["state"], run["reason"]) == ("failed", "out_of_memory"), shared.log(name)
    assert b"ate it" not in shared.log(name)
    assert shared.wait(tree.push_workflow("true", message="after"))["state"] == "succeeded"


def resident(pid: int) -> int:
    """Bytes of memory that a process holds."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_hundred_megabytes_of_log_arrive_whole_and_cost_the_server_no_memory(
    shared: Site, repository: MakeTree
) -> None:
    """F39: many lines fast, then one line of 20 MB, bytes that are no text, and progress bars."""
    text = """
        import hashlib, os, sys
        out, digest = sys.stdout.buffer, hashlib.sha256()
        def say(data):
            digest.update(data); out.write(data)
        line = b'x' * 99 + b'\\n'
        for _ in range(800): say(line * 1000)
        say(b'y' * 20_000_000 + b'\\n')
        for n in range(256): say(bytes(range(256)) + b'\\xff\\xfe\\xc3')
        for n in range(1000): say(b'%d%%\\r' % n)
        say(b'\\xf0\\x9f'); out.flush(); say(b'\\x98\\x80\\n'); out.flush()
        out.write(b'digest %s\\n' % digest.hexdigest().encode())
    """
    tree = repository(shared)
    script = "\n".join(line.removeprefix("        ") for line in text.splitlines())
    tree.write({"shout.py": script})
    before = resident(shared.server.pid)
    name = tree.push_workflow("python3 shout.py")
    peak = before
    while shared.run(name)["state"] not in ("succeeded", "failed"):
        peak = max(peak, resident(shared.server.pid))
        time.sleep(0.05)
    (attempt,) = shared.attempts(name)
    log = log_of(shared.server.data, attempt["id"])
    body, _, said = log.rpartition(b"digest ")
    assert len(body) > 100_000_000
    assert hashlib.sha256(body).hexdigest() == said.strip().decode()
    assert peak - before < 50 * 1024**2
    begun = time.monotonic()
    tail = shared.cli("logs", name, "--offset", str(len(log) - 72)).stdout
    assert (tail, time.monotonic() - begun < 5) == (f"digest {said.strip().decode()}\n", True)
