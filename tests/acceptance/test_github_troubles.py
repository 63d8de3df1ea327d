"""The server dies, GitHub is away or slow, tokens end, the App goes: at the end GitHub shows once what is true here."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator

import pytest
from github_site import FILE, REPO, WRITER, OnGitHub, on_github, program
from machines import until

FILES = {
    FILE: """
workflows:
  - name: train
    provider: bash
    on: {push: {branches: [main]}, pull_request: , comment: /train}
    metrics: {file: metrics.json, headline: accuracy, better: higher}
    gate: accuracy >= base - 0.01
    commands: ["python3 train.py ${{ lr }}"]
  - {name: check, provider: bash, on: pull_request, commands: ['true']}
  - {name: long, provider: bash, on: {comment: /long}, commands: ["for n in $(seq 100); do echo $n; sleep 0.1; done"]}
""",
    ".dstack/variables.yaml": "variables: {train: {lr: 1}}\n",
    **program(accuracy=0.9),
}


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnGitHub]:
    with on_github(tmp_path_factory.mktemp("killed"), FILES) as made:
        made.site.runner()
        yield made
        made.settle()
        made.assert_sound()


@pytest.mark.xdist_group("github-killed")
@pytest.mark.parametrize("point", ["delivery-committed=kill@2", *(f"forge-told=kill@{n}" for n in (1, 2, 3, 5, 7))])
def test_a_kill_between_github_and_our_row_doubles_nothing(killed: OnGitHub, point: str) -> None:
    """F2, I4. A webhook whose answer was lost is sent again with its GUID; what GitHub has already is found there."""
    site, fake = killed.site, killed.fake
    site.server.kill()
    site.server.start(DSTACK_FAILPOINTS=point)
    number, sha = killed.open_pull(re.sub(r"\W", "-", point), program(accuracy=0.95, seed=len(killed.runs())))
    comment = killed.say(number, "/train --lr 2") if point.startswith("delivery") else 0
    assert site.server.ended(60) == -signal.SIGKILL
    site.server.start()
    redeliver_failed(killed)
    killed.status(sha, "dstack/train", "success")
    killed.status(sha, "dstack/check", "success")
    killed.settle()
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
