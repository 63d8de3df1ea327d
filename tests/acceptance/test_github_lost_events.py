"""Webhooks that are dropped, doubled, shuffled, late, or sent to nobody: the runs are as if all had come."""

from __future__ import annotations

import random
import zlib
from collections import Counter
from collections.abc import Iterator

import pytest
from github_site import FILE, REPO, OnGitHub, on_github, program, until_told

FILES = {
    FILE: """
workflows:
  - name: train
    provider: bash
    on: {push: {branches: [main]}, pull_request: , comment: /train}
    metrics: {file: metrics.json, headline: accuracy, better: higher}
    commands: ["python3 train.py ${{ lr }}"]
  - {name: check, provider: bash, on: pull_request, commands: ['true']}
""",
    ".dstack/variables.yaml": "variables: {train: {lr: 1}}\n",
    **program(accuracy=0.9),
}
pytestmark = pytest.mark.xdist_group("github-lost")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnGitHub]:
    with on_github(tmp_path_factory.mktemp("lost"), FILES) as made:
        made.site.runner()
        yield made
        made.settle()
        made.assert_sound()


def made_for(scene: OnGitHub, *shas: str) -> Counter[tuple[str, str, str]]:
    """How many runs there are of each commit, workflow and cause."""
    return Counter((run["sha"], run["workflow"], run["trigger"]) for sha in shas for run in scene.runs(sha))


def until_made(scene: OnGitHub, wanted: Counter[tuple[str, str, str]], within_s: float = 40.0) -> None:
    shas = {sha for sha, _, _ in wanted}
    until_told(
        lambda: made_for(scene, *shas) >= wanted, within_s,
        lambda: f"without {wanted - made_for(scene, *shas)}: {scene.told()}\n{scene.site.said(6000)}",
    )  # fmt: skip
    scene.settle()
    assert made_for(scene, *shas) == wanted


def work(scene: OnGitHub, name: str) -> Counter[tuple[str, str, str]]:
    """Pushes, a pull request with a second commit, and a comment; the runs that come of it."""
    pushed = [
        scene.push(program(accuracy=0.9, seed=zlib.crc32(f"{name} {n}".encode())), message=f"{name} {n}")
        for n in range(2)
    ]
    number, first = scene.open_pull(name, {"notes.txt": name})
    head = scene.fake.push_pull(REPO, number, {"notes.txt": f"{name} again"})
    scene.say(number, "/train --lr 2")
    runs = [(sha, "train", "push") for sha in pushed]
    runs += [(sha, workflow, "pull_request") for sha in (first, head) for workflow in ("train", "check")]
    return Counter([*runs, (head, "train", "comment")])


def test_doubled_webhooks_make_nothing_twice(scene: OnGitHub) -> None:
    scene.fake.webhooks.double(3)
    wanted = work(scene, "doubled")
    until_made(scene, wanted)
    scene.fake.webhooks.heal()
    scene.assert_told_once()


def test_shuffled_and_late_webhooks_end_at_the_newest_commit(scene: OnGitHub) -> None:
    """F30. A commit that was replaced before its webhook came needs no runs; what is at the head has all of them. A
    command that is heard of before the push it was made after is refused: nothing runs that nobody looked at."""
    fake = scene.fake
    fake.webhooks.hold()
    fake.webhooks.double(2)
    wanted = work(scene, "shuffled")
    assert fake.webhooks.release(shuffle=random.Random(30)) >= 10
    head = next(sha for sha, _, trigger in wanted if trigger == "comment")
    at_head = Counter({(sha, *rest): 1 for sha, *rest in wanted if sha == head or rest[1] == "push"})
    del at_head[head, "train", "comment"]
    shas = {sha for sha, _, _ in wanted}
    until_told(
        lambda: made_for(scene, *shas) >= at_head, 40,
        lambda: f"the head has its runs {at_head - made_for(scene, *shas)} {scene.told()}",
    )  # fmt: skip
    fake.webhooks.heal()
    scene.settle()
    made = made_for(scene, *shas)
    assert at_head <= made <= wanted
    scene.assert_told_once()


def test_what_was_sent_while_the_server_was_away_is_caught_up_with(scene: OnGitHub) -> None:
    """F31: GitHub does not try again by itself; the server takes what did not arrive from its log."""
    scene.settle()
    scene.site.server.kill()
    wanted = work(scene, "away")
    scene.fake.flush()
    for delivery in scene.fake.webhooks.log:
        delivery.delivered_at -= 600  # so long ago
    scene.site.ledger.rows("UPDATE forge_logs SET begun_at = begun_at - 3600, read_at = read_at - 3600")
    scene.site.server.start()
    until_made(scene, wanted)
    scene.assert_told_once()


def test_what_github_never_sent_is_found_at_the_next_start(scene: OnGitHub) -> None:
    """No delivery was ever made: heads, pull requests and comments say what happened."""
    scene.settle()
    scene.fake.webhooks.drop_all()
    wanted = work(scene, "dropped")
    scene.fake.webhooks.heal()
    scene.site.server.kill()
    scene.site.ledger.rows("UPDATE repos SET looked_at = looked_at - 3600")
    scene.site.server.start()
    pushes = [key for key in wanted if key[2] == "push"]
    heads = {sha for sha, _, trigger in wanted if trigger == "comment"}
    seen = [key for key in wanted if key[0] in heads or key == pushes[-1]]
    until_made(scene, Counter(seen))
    scene.assert_told_once()
