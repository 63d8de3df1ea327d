"""The server dies, GitHub is away or slow, tokens end, the App goes: at the end GitHub shows once what is true here."""

from __future__ import annotations

import contextlib
import re
import signal
import threading
import time
from collections.abc import Iterator
from itertools import pairwise

import psutil
import pytest
from github_site import FILE, REPO, OnGitHub, on_github, program

# A server that dies between an offer and its answer costs a lease, and then an attempt: `retry` has more of them.
FILES = {
    FILE: """
workflows:
  - name: train
    provider: bash
    retry: 5
    on: {push: {branches: [main]}, pull_request: , comment: /train}
    metrics: {file: metrics.json, headline: accuracy, better: higher}
    gate: accuracy >= base - 0.01
    commands: ["python3 train.py ${{ lr }}"]
  - {name: check, retry: 5, provider: bash, on: pull_request, commands: ['true']}
  - {name: long, provider: bash, on: {comment: /long}, commands: ["for n in $(seq 100); do echo $n; sleep 0.1; done"]}
""",
    ".dstack/variables.yaml": "variables: {train: {lr: 1}}\n",
    **program(accuracy=0.9),
}


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnGitHub]:
    with on_github(tmp_path_factory.mktemp("killed"), FILES, DSTACK_LEASE_S="6") as made:
        made.site.runner()
        yield made
        made.settle(60)
        made.assert_sound()


@pytest.mark.xdist_group("github-killed")
@pytest.mark.parametrize("point", ["delivery-committed=kill@2", *(f"forge-told=kill@{n}" for n in (1, 2, 3, 5, 7))])
def test_a_kill_between_github_and_our_row_doubles_nothing(killed: OnGitHub, point: str) -> None:
    """F2, I4. A webhook whose answer was lost is sent again with its GUID; what GitHub has already is found there."""
    site = killed.site
    site.server.kill()
    site.server.start(DSTACK_FAILPOINTS=point)
    number, sha = killed.open_pull(re.sub(r"\W", "-", point), program(accuracy=0.95, seed=len(killed.runs())))
    comment = killed.say(number, "/train --lr 2") if point.startswith("delivery") else 0
    assert site.server.ended(60) == -signal.SIGKILL
    site.server.start()
    redeliver_failed(killed)
    killed.status(sha, "dstack/train", "success", within_s=60)
    killed.status(sha, "dstack/check", "success", within_s=60)
    killed.settle(60)
    runs = killed.runs(sha)
    assert sorted(run["workflow"] for run in runs) == ["check", "train", *(["train"] if comment else [])]
    assert not any(run["restarted_from"] for run in runs)
    killed.assert_told_once()


def redeliver_failed(scene: OnGitHub) -> None:
    """What the App's owner, or the server every few minutes, does."""
    scene.fake.flush()
    done = {d.guid for d in scene.fake.webhooks.log if d.status == "OK"}
    for lost in [d for d in scene.fake.webhooks.log if d.status != "OK" and d.guid not in done]:
        scene.fake.webhooks.redeliver(lost)
    scene.fake.flush()


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnGitHub]:
    with on_github(tmp_path_factory.mktemp("troubles"), FILES, DSTACK_GITHUB_WRITE_GAP_S=str(GAP_S)) as made:
        made.site.runner()
        yield made
        made.settle()
        made.assert_sound()


GAP_S = 0.1
at_troubles = pytest.mark.xdist_group("github-troubles")


@at_troubles
def test_answers_that_are_lost_after_the_work_was_done_double_nothing(scene: OnGitHub) -> None:
    """I4: a status, a check and a comment were made, and nobody said so."""
    for path in (r"/statuses/", r"/check-runs$", r"/issues/\d+/comments$", r"/reactions$"):
        scene.fake.faults.lose_answer(path=path, method="POST", count=1)
    number, sha = scene.open_pull("lost-answers", program(accuracy=0.91))
    comment = scene.say(number, "/train --lr 2")
    scene.until_reacted(comment, "rocket")
    scene.status(sha, "dstack/train (manual)", "success", within_s=40)
    scene.settle(60)
    assert [name for name, *_ in scene.fake.faults.played] == ["answer lost"] * 4
    assert scene.fake.reactions(comment)[-1:] == ["rocket"]
    assert len(scene.runs(sha)) == 3
    scene.assert_told_once()


@at_troubles
def test_an_outage_of_github_costs_no_run_and_ends_in_what_is_true(scene: OnGitHub) -> None:
    """F26: limits, errors, resets and hanging calls while people push, comment and runs go on. The hour is played in
    seconds: what is waited for grows with the failures, not with the clock."""
    fake = scene.fake
    number, first = scene.open_pull("outage", program(accuracy=0.92))
    scene.until_runs(first, 2)
    faults = fake.faults
    fake.enforce_pacing = True
    played = len(faults.played)
    faults.secondary_limit(retry_after=2, path="/repos/", for_s=1.5)
    faults.hang(0.5, path="/repos/", count=4)
    with fake.outage("502"):
        second = fake.push_pull(REPO, number, program(accuracy=0.93))
        comment = scene.say(number, "/train --lr 3")
        on_main = scene.push(program(accuracy=0.94))
        time.sleep(3)
    with fake.outage("reset"):
        for token in fake.tokens.values():  # they end while nobody can ask for new ones
            if token.installation is not None:
                token.revoked = True
        time.sleep(3)
    ended = time.monotonic()
    assert len(faults.played) - played > 3  # few: nobody hammers on a closed door
    for sha, context in ((second, "dstack/train"), (second, "dstack/check"), (on_main, "dstack/train")):
        scene.status(sha, context, "success", within_s=60)
    scene.until_reacted(comment, "rocket", 60)
    scene.settle(60)
    assert time.monotonic() - ended < 60
    fake.enforce_pacing = False
    assert sorted(run["workflow"] for run in scene.runs(second)) == ["check", "train", "train"]
    assert len(scene.ours(number, f"<!-- dstack:reply:{comment} -->")) <= 1
    scene.assert_told_once()


def writes_apart(scene: OnGitHub) -> float:
    """The shortest time between two writes that GitHub saw, in seconds."""
    times = [call.time for call in scene.fake.writes()]
    return min(later - earlier for earlier, later in pairwise(times))


@at_troubles
def test_writes_keep_their_distance(scene: OnGitHub) -> None:
    """After all of the above: never two at once, nor two closer than the gap."""
    _, sha = scene.open_pull("paced", program(accuracy=0.95))
    scene.status(sha, "dstack/train", "success")
    scene.settle()
    assert len(scene.fake.writes()) >= 5  # fewer the faster the machine: what changes meanwhile is told once
    assert writes_apart(scene) > GAP_S * 0.8


@at_troubles
def test_tokens_that_end_in_the_middle_of_a_run_are_renewed(scene: OnGitHub) -> None:
    """F29."""
    number, sha = scene.open_pull("tokens", program(accuracy=0.96))
    scene.status(sha, "dstack/train", "success")
    comment = scene.say(number, "/long")
    scene.status(sha, "dstack/long (manual)", "pending")
    for token in scene.fake.tokens.values():
        token.expires_at = 0
    scene.say(number, "/dstack stop")
    scene.status(sha, "dstack/long (manual)", "failure")
    scene.settle()
    assert "rocket" in scene.fake.reactions(comment)
    assert [call.path for call in scene.fake.calls() if call.status == 401]


@pytest.mark.xdist_group("github-gone")
def test_an_app_that_is_uninstalled_during_a_run_lets_it_end_and_is_not_asked_for_again(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """F28."""
    with on_github(tmp_path_factory.mktemp("gone"), FILES) as scene:
        scene.site.runner()
        number, sha = scene.open_pull("gone", program(accuracy=0.92))
        scene.status(sha, "dstack/train", "success")
        scene.say(number, "/long")
        scene.status(sha, "dstack/long (manual)", "pending")
        (run,) = [run for run in scene.runs(sha) if run["workflow"] == "long"]
        scene.fake.uninstall(scene.installation)
        scene.fake.flush()
        calls = len(scene.fake.ledger)
        scene.site.post(f"/runs/{run['name']}/stop")
        assert scene.site.wait(run["name"])["state"] == "stopped"
        time.sleep(5)  # in which a retry storm would be seen
        assert len(scene.fake.ledger) - calls < 10, [call.path for call in scene.fake.ledger[calls:]]
        assert "installed nowhere" in scene.site.cli("github", "doctor", code=1).stdout
        scene.installation = scene.fake.install(scene.app, "acme")
        scene.status(sha, "dstack/long (manual)", "failure", within_s=30)
        scene.settle()
        scene.assert_sound()


@pytest.mark.xdist_group("github-gone")
def test_secrets_of_the_app_are_nowhere(tmp_path_factory: pytest.TempPathFactory) -> None:
    """I9: key, webhook secret and tokens of installations, after work and trouble: not in logs, in the data folder, on
    a command line, nor in anything GitHub was told."""
    with on_github(tmp_path_factory.mktemp("canaries"), FILES) as scene:
        runner = scene.site.runner()
        commands = CommandLines()
        with commands:
            scene.fake.faults.error(500, path="access_tokens", count=1)
            scene.fake.faults.error(401, path="check-runs", count=2)
            number, sha = scene.open_pull("canary", program(accuracy=0.9))
            scene.say(number, "/dstack nonsense")
            scene.status(sha, "dstack/train", "success", within_s=40)
            scene.site.cli("github", "doctor")
            scene.settle(40)
        body = scene.app.pem.splitlines()[3]
        canaries = [body, scene.app.webhook_secret, scene.app.client_secret, *scene.fake.tokens]
        assert len(canaries) > 4
        said = [scene.site.server.text, runner.text, *commands.seen, *map(str, scene.fake.writes())]
        for canary in canaries:
            assert not any(canary in text for text in said)
            for path in [p for p in scene.site.server.data.rglob("*") if p.is_file()]:
                assert canary.encode() not in path.read_bytes(), path
        scene.assert_told_once()


class CommandLines:
    """Every command line and environment of git that this machine shows while it watches."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()
        assert any("git" in line for line in self.seen)

    def _watch(self) -> None:
        while not self._over.wait(0.03):
            for process in psutil.process_iter():
                with contextlib.suppress(psutil.Error):
                    self.seen.add(" ".join(process.cmdline()))
