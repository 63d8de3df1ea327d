"""The server dies, is away or is unwell while runs are made and jobs train: nothing accepted is lost or done twice."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from installation import Repository, Site, bash_workflow
from machines import Machine, until
from tcp_proxy import Answer, Hang, LoseReply

MakeSite = Callable[..., Site]
MakeTree = Callable[..., Repository]

CHAIN = """
workflows:
  - name: first
    provider: bash
    commands:
      - mkdir data; for n in $(seq 200); do echo "row $n"; done | tee data/rows
    artifacts: [data]
    retry: 10
    on: push
  - name: second
    provider: bash
    depends-on: [first]
    retry: 10
    commands: ["wc -l < data/rows"]
    on: push
"""


class Pusher:
    """Makes commits and pushes each until the server has taken it; what it was told of is what must have run."""

    def __init__(self, tree: Repository) -> None:
        self.tree = tree
        self.told: list[str] = []

    def push(self, number: object) -> str:
        sha = self.tree.commit({"n": str(number), ".dstack/workflows.yaml": CHAIN})
        deadline = time.monotonic() + 30
        while not self._push_once():
            assert time.monotonic() < deadline, f"the server does not take a push: {self.refusal}"
            time.sleep(0.2)  # oftener, and it would slow down the start that it waits for
        self.told.append(sha)
        return sha

    def _push_once(self) -> bool:
        words = ["git", "push", "-q", "dstack", "HEAD:main"]
        done = subprocess.run(words, cwd=self.tree.path, env=self.tree.site.env, capture_output=True, timeout=60)
        self.refusal = done.stderr
        return done.returncode == 0


def kill_at_random(victims: Sequence[Machine], kills: int, stop: threading.Event, seed: int) -> list[float]:
    """Kill one of them again and again while work goes on; how long each restart took."""
    chance, restarts = random.Random(seed), []
    for _ in range(kills):
        if stop.wait(chance.uniform(0.2, 1.5)):
            break
        victim = chance.choice(victims)
        victim.kill()
        restarts.append(victim.start())
    return restarts


def load_and_kill(
    site: Site, tree: Repository, victims: Sequence[Machine], *, pushes: int, kills: int, seed: int
) -> None:
    """Kills at random moments during a load of pushes; every push ends in its runs, once each."""
    enough = threading.Event()
    pusher = Pusher(tree)
    with ThreadPoolExecutor(1) as pool:
        killing = pool.submit(kill_at_random, victims, kills, enough, seed)
        try:
            for number in range(pushes):
                pusher.push(number)
            restarts = killing.result(120)
        finally:
            enough.set()
    until(lambda: {run["sha"] for run in site.runs()} >= set(pusher.told), 60, "every push has its runs")
    runs = site.wait_all(180)
    made = sorted((run["sha"], run["workflow"]) for run in runs)
    assert made == sorted((sha, name) for sha in pusher.told for name in ("first", "second"))
    assert {run["state"] for run in runs} == {"succeeded"}
    assert len(restarts) == kills and max(restarts) < 15, restarts  # the goal is 5 s, on a machine of its own
    site.assert_sound()


def test_random_kills_of_the_server_under_load_lose_and_double_nothing(
    make_site: MakeSite, repository: MakeTree
) -> None:
    """F1."""
    site = make_site()
    site.runner(url=site.proxy().url)
    load_and_kill(site, repository(site), [site.server], pushes=15, kills=5, seed=20261122)
    assert {row["attempts"] for row in site.ledger.rows("SELECT attempts FROM jobs")} == {1}  # nothing ran twice


def test_random_kills_of_the_runner_under_load_lose_and_double_nothing(
    make_site: MakeSite, repository: MakeTree
) -> None:
    """F4, F5."""
    site = make_site(lease_s=4)
    runner = site.runner(url=site.proxy().url)
    load_and_kill(site, repository(site), [runner], pushes=8, kills=4, seed=4)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(10))
def test_many_random_kills_of_server_and_runner(make_site: MakeSite, repository: MakeTree, seed: int) -> None:
    site = make_site(lease_s=4)
    runner = site.runner(url=site.proxy().url)
    load_and_kill(site, repository(site), [site.server, runner], pushes=50, kills=10, seed=seed)


@pytest.mark.xdist_group("pointed")
@pytest.mark.parametrize(
    "point",
    [
        "push-before-delivery=kill", "commit-before=kill@15", "delivery-committed=kill", "offer-before-reply=kill",
        "accept-before-reply=kill", "artifact-before-reply=kill", "finish-before-reply=kill",
    ],
)  # fmt: skip
def test_a_kill_at_a_named_point_costs_nothing(pointed: Lossy, point: str) -> None:
    """F2."""
    site = pointed.site
    site.server.kill()
    site.server.start(DSTACK_FAILPOINTS=point)
    pusher = Pusher(pointed.tree)
    with ThreadPoolExecutor(1) as pool:
        pushing = pool.submit(pusher.push, point)
        assert site.server.ended(60) == -signal.SIGKILL  # the point was reached
        site.server.start()
        sha = pushing.result(60)
    until(lambda: len(site.runs(sha=sha)) == 2, 30, "the push has its two runs")
    runs = [site.wait(run["name"]) for run in site.runs(sha=sha)]
    assert [run["state"] for run in runs] == ["succeeded"] * 2
    assert [run["jobs"][0]["attempt"] for run in runs] == [1, 1]  # no attempt was wasted either


def test_a_manual_run_asked_for_again_after_a_kill_is_the_same_run(make_site: MakeSite, repository: MakeTree) -> None:
    """F2, B104: the delivery was committed, its answer was not sent."""
    site = make_site()
    tree = repository(site)
    sha = tree.commit({".dstack/workflows.yaml": bash_workflow("job", "true").replace("on: push", "on: manual")})
    tree.push()
    site.server.kill()
    site.server.start(DSTACK_FAILPOINTS="delivery-committed=kill")
    request = {"repo": tree.name, "sha": sha, "workflow": "job", "idempotency_key": "k"}
    with pytest.raises(requests.ConnectionError):
        site.call("POST", "/runs", request)
    assert site.server.ended(60) == -signal.SIGKILL
    site.server.start()
    names = {site.call("POST", "/runs", request).json()["runs"][0]["name"] for _ in range(3)}
    assert [run["name"] for run in site.runs()] == list(names)
    assert site.call("POST", "/runs", {**request, "variables": {"a": "b"}}).status_code == 409


def _dstack() -> list[str]:
    import sys

    return [sys.executable, "-m", "dstack.cli.main"]


TRAINING = """
for n in $(seq 1 {count}); do
  echo "step $n"; echo "{{\\"step\\": $n, \\"loss\\": $n}}" >> $DSTACK_METRICS; sleep 0.1
done
mkdir model; for n in 1 2 3; do echo "weights $n of $DSTACK_RUN" > model/$n; done
"""


def test_a_server_that_is_away_longer_than_a_lease_costs_a_training_nothing(
    make_site: MakeSite, repository: MakeTree
) -> None:
    """F9: the same attempt goes on, logs and metrics are spooled and arrive whole."""
    site = make_site(lease_s=2)
    site.runner(url=site.proxy().url)
    name = repository(site).push_workflow(TRAINING.format(count=60), "artifacts: [model]")
    site.until_logged(name, "step 3\n")
    site.server.kill()
    time.sleep(4.0)  # the outage itself: two leases long
    site.server.start()
    run = site.wait(name)
    assert (run["state"], run["jobs"][0]["attempt"]) == ("succeeded", 1)
    lines = [line for line in site.log(name).decode().splitlines() if not line.startswith("dstack:")]
    assert lines == [f"step {n}" for n in range(1, 61)]
    (attempt,) = site.attempts(name)
    points = site.ledger.rows("SELECT step FROM metrics WHERE attempt_id = ? ORDER BY position", attempt["id"])
    assert [row["step"] for row in points] == list(range(1, 61))
    site.assert_sound()


def test_a_job_that_ends_while_the_server_is_away_is_reported_when_it_is_back(
    make_site: MakeSite, repository: MakeTree
) -> None:
    """F9."""
    site = make_site(lease_s=2)
    site.runner(url=site.proxy().url)
    name = repository(site).push_workflow("echo up; sleep 1; mkdir out; echo 1 > out/x", "artifacts: [out]")
    site.until_logged(name, "up")
    site.server.kill()
    time.sleep(3.5)
    site.server.start()
    run = site.wait(name)
    assert (run["state"], run["jobs"][0]["attempt"], run["jobs"][0]["artifacts"][0]["files"]) == ("succeeded", 1, 1)
    site.assert_sound()


def test_a_server_told_to_stop_drains_and_loses_no_offer(make_site: MakeSite, repository: MakeTree) -> None:
    """F3: runners poll, a log is followed, jobs wait; then it goes on."""
    site = make_site()
    site.runner(url=site.proxy().url, slots=2)
    tree = repository(site)
    names = [tree.push_workflow("echo up; sleep 4; echo done")]
    names += [tree.push_workflow("sleep 1", message=str(n)) for n in range(5)]
    words = [*_dstack(), "logs", "-f", names[0]]
    with subprocess.Popen(words, env=site.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as follower:
        try:
            assert follower.stdout is not None and follower.stdout.readline() == "up\n"
            _drain_and_start_again(site, names)
            out, said = follower.communicate(timeout=60)
        finally:
            follower.kill()
    assert (follower.returncode, out) == (0, "done\n"), said
    assert all(len(site.attempts(name)) == 1 for name in names)
    site.assert_sound()


def _drain_and_start_again(site: Site, names: list[str]) -> None:
    begun = time.monotonic()
    assert site.server.leave() == 0
    assert time.monotonic() - begun < 12
    site.server.start()
    assert [site.wait(name)["state"] for name in names] == ["succeeded"] * 6


VERBS = ("poll", "accept", "state", "log", "metrics", "missing", "packs", "artifacts", "finish")


@pytest.mark.xdist_group("lossy")
@pytest.mark.parametrize("verb", VERBS)
def test_a_lost_reply_to_any_call_is_repeated_without_harm(shared_proxied: Lossy, verb: str) -> None:
    """F10: the server did it, the runner does not know."""
    site, proxy, tree = shared_proxied.site, shared_proxied.proxy, shared_proxied.tree
    played, times = len(proxy.played), 1 if verb in ("poll", "finish") else 2
    proxy.on(rf"^(POST|PUT) \S*/{verb}\b", LoseReply(), times)
    # After a finish whose answer was lost the next renewal tells the runner that the attempt is over, too.
    if verb == "poll":  # the call that hangs now is not the one that is lost: let it answer first
        site.wait(tree.push_workflow("true"))
    name = tree.push_workflow(TRAINING.format(count=3), "artifacts: [model]", message=verb)
    run = site.wait(name)
    assert proxy.wait_played(played + times, 10)
    assert (run["state"], run["jobs"][0]["attempt"]) == ("succeeded", 1)
    lines = [line for line in site.log(name).decode().splitlines() if not line.startswith("dstack:")]
    assert lines == ["step 1", "step 2", "step 3"]
    assert len(run["jobs"][0]["artifacts"]) == 1
    (attempt,) = site.attempts(name)
    assert attempt["points"] == 3


@pytest.mark.xdist_group("pointed")
def test_an_acceptance_whose_answers_are_lost_for_some_seconds_costs_no_attempt(pointed: Lossy) -> None:
    """The server has given the job away, and only this runner can do it."""
    site, proxy = pointed.site, pointed.proxy
    played = len(proxy.played)
    proxy.on(r"^POST \S*/accept\b", LoseReply(), times=5)
    name = pointed.tree.push_workflow("echo done", message="unanswered")
    run = site.wait(name)
    assert len(proxy.played) - played == 5
    assert (run["state"], run["jobs"][0]["attempt"], site.log(name)) == ("succeeded", 1, b"done\n")


@pytest.mark.xdist_group("lossy")
def test_a_success_counts_though_no_state_was_told_before_it(shared_proxied: Lossy) -> None:
    site, proxy = shared_proxied.site, shared_proxied.proxy
    proxy.on(r"^POST \S*/state\b", Answer(503), times=3)
    name = shared_proxied.tree.push_workflow("true")
    run = site.wait(name, 20)
    assert (run["state"], run["jobs"][0]["attempt"]) == ("succeeded", 1)


@pytest.mark.xdist_group("lossy")
def test_a_call_that_never_answers_does_not_stop_the_others(shared_proxied: Lossy) -> None:
    """A hung log call must not cost the lease: renewals have a connection of their own."""
    site, proxy = shared_proxied.site, shared_proxied.proxy
    proxy.on(r"^PUT \S*/log\b", Hang())
    name = shared_proxied.tree.push_workflow("echo up; sleep 7; echo done")
    until(lambda: site.run(name)["state"] == "running", 20, "it runs")
    time.sleep(6)  # three leases long
    assert site.run(name)["state"] == "running"
    proxy.reset_all()
    run = site.wait(name)
    assert (run["state"], run["jobs"][0]["attempt"], site.log(name)) == ("succeeded", 1, b"up\ndone\n")


class Lossy:
    """A site whose runner works through one proxy."""

    def __init__(self, site: Site) -> None:
        self.site, self.tree = site, Repository(site, "local/lossy")
        self.proxy = site.proxies[0]


@pytest.fixture(scope="module")
def pointed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lossy]:
    yield from _lossy(tmp_path_factory.mktemp("pointed"), 20)


@pytest.fixture(scope="module")
def shared_proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lossy]:
    yield from _lossy(tmp_path_factory.mktemp("lossy"), 2)


def _lossy(root: Path, lease_s: int) -> Iterator[Lossy]:
    site = Site(root, lease_s=lease_s)
    try:
        site.start().runner(url=site.proxy().url)
        yield Lossy(site)
        site.wait_all()
        site.assert_sound()
    finally:
        site.close()


def test_a_mix_of_errors_slows_work_and_breaks_nothing(make_site: MakeSite, repository: MakeTree) -> None:
    """F11: three calls in ten fail, in every way there is."""
    site = make_site(lease_s=6)
    proxy = site.proxy()
    site.runner(url=proxy.url)
    tree = repository(site)
    proxy.mix(0.3, seed=11)
    pusher = Pusher(tree)
    for number in range(5):
        pusher.push(number)
    runs = site.wait_all(100)
    proxy.mix(0, seed=0)
    assert {run["state"] for run in runs} == {"succeeded"}, [(r["name"], r["reason"], r["jobs"]) for r in runs]
    assert len(proxy.played) > 20
    assert all(json.dumps(site.attempts(run["name"])).count("lost") == 0 for run in runs)
    site.assert_sound()
