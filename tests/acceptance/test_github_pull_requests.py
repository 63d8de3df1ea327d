"""What people see on a pull request, from the push to the verdict, with a real server, runner and Git."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from github_site import FILE, REPO, STRANGER, WRITER, OnGitHub, on_github, program

FILES = {
    FILE: """
workflows:
  - name: train
    provider: bash
    help: Train the model
    on: {push: {branches: [main], paths-ignore: ['*.md']}, pull_request: , comment: /train}
    paths: ['*.py', '.dstack/**']
    gate: accuracy >= base - 0.01
    secrets: [TOKEN]
    metrics: {file: metrics.json, headline: accuracy, better: higher}
    commands:
      - python3 train.py
      - echo "lr ${{ lr }}, secret [$TOKEN]"
""",
    ".dstack/variables.yaml": "variables: {train: {lr: 0.1}}\n",
    **program(accuracy=0.9),
}
SECRET = "canary-correct-horse"


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnGitHub]:
    with on_github(tmp_path_factory.mktemp("pulls"), FILES) as made:
        made.site.runner("plain")
        made.site.call("PUT", f"/repos/{REPO}/secrets/TOKEN", {"value": SECRET})
        yield made
        made.settle()
        made.assert_sound()


@pytest.fixture(scope="module")
def base(scene: OnGitHub) -> str:
    """A commit of main that was trained: 0.93."""
    sha = scene.push(program(accuracy=0.93))
    scene.ended(sha, 1)
    return sha


pytestmark = pytest.mark.xdist_group("github-pulls")


def test_a_push_is_told_from_its_beginning_to_its_metric(scene: OnGitHub, base: str) -> None:
    """I13: pending while it goes on; at the end state, duration and headline; a check with the log; pages to open."""
    sha = base
    status = scene.status(sha, "dstack/train", "success")
    (run,) = scene.runs(sha)
    assert re.fullmatch(r"\d+s · accuracy 0\.93 · first result", status.description or ""), status.description
    assert status.target_url == f"{scene.site.server.url}/runs/{run['name']}"
    assert set(scene.history(sha, "dstack/train")[:-1]) == {"pending"}
    scene.until_told()
    (check,) = scene.fake.checks(REPO, sha)
    assert (check.name, check.status, check.conclusion) == ("dstack / train", "completed", "success")
    assert "accuracy | 0.93" in check.output["summary"] and "lr 0.1" in check.output["text"]
    assert [action["label"] for action in check.actions] == ["Tag latest"]


def test_a_pull_request_is_compared_with_its_base_and_no_command_turns_a_red_gate_green(
    scene: OnGitHub, base: str
) -> None:
    number, good = scene.open_pull("faster", program(accuracy=0.95))
    body = scene.comment(number, "✅ succeeded")
    (run,) = scene.ended(good, 1)
    (before,) = scene.runs(base)
    assert f"| accuracy 0.95 | +0.02 ▲ better (0.93 in {before['name']}) | [{run['name']}]" in body
    assert (scene.status(good, "dstack/train", "success").description or "").endswith("s · accuracy 0.95 (+0.02)")
    assert (run["pull_request"], run["base_run"], run["verdict"]) == (number, before["name"], "passed")

    bad = scene.fake.push_pull(REPO, number, program(accuracy=0.5))
    red = scene.status(bad, "dstack/train", "failure")
    assert (red.description or "").startswith("gate failed: accuracy 0.5 < base 0.93 - 0.01 · accuracy 0.5 (-0.43)")
    (run,) = scene.ended(bad, 1)
    assert (run["state"], run["verdict"]) == ("succeeded", "failed")

    comment = scene.say(number, "/train --lr 9")
    scene.until_reacted(comment, "rocket")
    scene.status(bad, "dstack/train (manual)", "failure")
    scene.until_told()
    assert scene.history(bad, "dstack/train")[-1] == "failure"
    (mine,) = [run for run in scene.runs(bad) if run["trigger"] == "comment"]
    assert mine["variables"] == {"lr": "9"} and b"lr 9" in scene.site.log(mine["name"])
    assert "(comment lr=9)" in scene.comment(number, mine["name"], run["name"])


@pytest.mark.usefixtures("base")
def test_a_green_run_with_other_variables_leaves_the_required_status_red(scene: OnGitHub) -> None:
    """As above, where the command's run itself is green: the gate is met only with the other variable."""
    text = "import json, sys\nlr = float(sys.argv[1]) if sys.argv[1:] else 0\n"
    code = {"train.py": text + "json.dump({'accuracy': 0.99 if lr > 1 else 0.1}, open('metrics.json', 'w'))\n"}
    entry = FILES[FILE].replace("python3 train.py", "python3 train.py ${{ lr }}")
    number, sha = scene.open_pull("cheat", {**code, FILE: entry})
    scene.status(sha, "dstack/train", "failure")
    scene.say(number, "/train --lr 9")
    scene.status(sha, "dstack/train (manual)", "success")
    scene.until_told()
    assert scene.history(sha, "dstack/train")[-1] == "failure"
    assert [(c.name, c.conclusion) for c in scene.fake.checks(REPO, sha)] == [
        ("dstack / train", "failure"), ("dstack / train (manual)", "success"),
    ]  # fmt: skip


def test_a_fork_waits_for_its_commit_to_be_approved_and_gets_nothing_of_ours(scene: OnGitHub) -> None:
    """B39, B40; a canary in the log of the job would show a secret in its environment."""
    steal = "workflows:\n  - {name: train, provider: bash, on: pull_request, commands: [env]}\n"
    stranger = {FILE: steal, "train.py": "import os\nprint(sorted(os.environ.items()))\n"}
    number, sha = scene.fork_pull(STRANGER, stranger)
    waits = scene.status(sha, "dstack/train", "pending").description or ""
    assert f"/dstack approve {sha[:7]}" in waits and "waits for approval" in waits
    (run,) = scene.until_runs(sha, 1)
    assert run["state"] == "waiting" and run["reason"].startswith(f"waits for approval of {sha[:7]}")
    scene.comment(number, "✋ waits for approval")
    scene.until_told()
    (check,) = scene.fake.checks(REPO, sha)
    assert (check.conclusion, [a["label"] for a in check.actions]) == ("action_required", ["Approve"])

    scene.until_reacted(scene.say(number, f"/dstack approve {sha}", STRANGER), "-1")
    assert scene.site.run(run["name"])["state"] == "waiting"
    scene.until_reacted(scene.say(number, f"/dstack approve {sha[:7]}", WRITER), "rocket")
    queued = scene.site.until_state(run["name"], "queued")  # the runner that is there does not take it
    assert "untrusted" in queued["reason"]
    scene.site.runner("taker", DSTACK_RUNNER_UNTRUSTED="1")
    run = scene.site.wait(run["name"])
    assert run["jobs"][0]["runner"] == "taker"
    log = scene.site.log(run["name"]).decode()
    assert "DSTACK_" in log and "secret []" in log  # the base's commands ran the fork's code, without the secret
    for canary in (SECRET, scene.app.webhook_secret, "BEGIN RSA"):
        assert canary not in log

    newer = scene.fake.push_pull(REPO, number, {"train.py": "print('other')\n"}, author=STRANGER)
    (held,) = scene.until_runs(newer, 1)
    assert held["state"] == "waiting" and f"waits for approval of {newer[:7]}" in held["reason"]
    assert scene.status(newer, "dstack/train", "pending")
    scene.site.post(f"/runs/{held['name']}/stop")


def test_one_training_and_four_green_commits(scene: OnGitHub) -> None:
    """Three pushes that change only the README, and the merge of a pull request that was trained already."""
    shas = [scene.push(program(accuracy=0.94))]
    shas += [scene.push({"README.md": f"{n}\n"}, message=f"Words {n}") for n in range(3)]
    told = [scene.status(sha, "dstack/train", "success").description or "" for sha in shas]
    (run,) = scene.ended(shas[0], 1)
    assert told[1:] == ["not needed: nothing it reads has changed (*.py, .dstack/**)"] * 3
    assert attempts_at(scene, *shas) == 1

    number, head = scene.open_pull("once", program(accuracy=0.96))
    (run,) = scene.ended(head, 1)
    merged = scene.fake.merge_pull(REPO, number, WRITER)
    told = [scene.status(merged, "dstack/train", "success").description or ""]
    (again,) = scene.ended(merged, 1)
    assert (again["same_as"], again["metrics"]) == (run["name"], {"accuracy": 0.96})
    assert told[0].startswith(f"same as {run['name']} · accuracy 0.96 (+0.02)")
    assert (attempts_at(scene, head), attempts_at(scene, merged)) == (1, 0)


def attempts_at(scene: OnGitHub, *shas: str) -> int:
    """How often a runner began something for these commits."""
    attempts = "SELECT count(*) AS n FROM attempts a JOIN jobs j ON j.id = a.job_id JOIN runs r ON r.id = j.run_id"
    return scene.count(f"{attempts} WHERE r.sha IN ({', '.join('?' * len(shas))})", *shas)
