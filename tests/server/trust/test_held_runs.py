"""Pull requests from forks: held until their very commit is approved, and never trusted."""

from __future__ import annotations

import subprocess

import pytest
from fork_scene import EVIL, READER, WRITER, Forks
from joined_github import REPO
from served_api import wait_for

from dstack.server.models.delivery import DeliveryState
from dstack.wire.states import JobState, Reason


def held_words(sha: str) -> str:
    return f"waits for approval of {sha[:7]}: `/dstack approve {sha[:7]}` by someone with write access"


def test_a_fork_waits_with_the_workflows_of_the_base(scene: Forks) -> None:
    """B39, and the classic pwn request: what the fork wrote into the file is not read."""
    number = scene.fork_pull(files={".dstack/workflows.yaml": EVIL, "train.py": "import os\n"})
    sha, repo = scene.head(number), scene.repo()
    runs = scene.runs_of(number)
    assert [run.workflow for run in runs] == ["train", "evaluate"]
    for run in runs:
        assert (run.state, run.trusted, run.needs_approval, run.approved_by) == (JobState.WAITING, False, True, "")
        assert (run.objects, run.auto_tag) == (f"{repo.id}-pull-{number}", None)
        assert scene.waits_for(run) == held_words(sha)
        view = scene.api.get_run(run.name)
        assert (view["state"], view["reason"]) == ("waiting", held_words(sha))
    git = scene.api.wiring.git
    assert not git.has_commit(str(repo.id), sha) and git.has_commit(runs[0].git_id, sha)
    assert scene.plain.poll() == {"offers": [], "stops": []}
    assert scene.taker.poll() == {"offers": [], "stops": []}


def test_an_approved_fork_runs_without_anything_of_ours(scene: Forks) -> None:
    number = scene.fork_pull()
    sha, (train, evaluate) = scene.head(number), scene.runs_of(number)
    assert scene.plain.poll() == scene.taker.poll() == {"offers": [], "stops": []}
    scene.say(number, f"/dstack approve {sha[:7]}")
    wait_for(lambda: scene.now(train).state is JobState.OFFERED)
    assert scene.now(evaluate).state is JobState.WAITING
    assert {scene.now(run).approved_by for run in (train, evaluate)} == {WRITER}
    assert scene.waits_for(evaluate) == f"waits for train ({train.name})"
    assert scene.plain.poll() == {"offers": [], "stops": []}
    held = scene.take(train)
    assert (held.order["trusted"], held.order["secrets"], held.order["sha"]) == (False, {}, sha)
    assert held.order["job"]["commands"][0]["shell"] == "echo base" and "correct-horse" not in str(held.order)
    held.save("model", {"model/w": b"weights"})
    assert held.finish().status_code == 204
    refused = scene.api.call("PUT", f"/api/v1/repos/{REPO}/tags/train/latest", json={"run": train.name})
    assert refused.status_code == 422 and "ran the code of a fork" in refused.json()["message"]
    assert scene.api.ok("GET", f"/api/v1/tags?repo={REPO}") == []
    second = scene.take(evaluate)
    assert [given["path"] for given in second.order["inputs"]] == ["model"]  # of one trust with it
    assert second.finish().status_code == 204


def test_a_forks_attempt_reads_its_own_repository_and_writes_none(scene: Forks, tmp_path) -> None:
    number = scene.fork_pull()
    sha, (train, _) = scene.head(number), scene.runs_of(number)
    scene.say(number, f"/dstack approve {sha}")
    held = scene.take(train)
    address = f"{scene.api.url.replace('://', '://x:' + held.order['clone_token'] + '@')}{held.order['clone_path']}"
    git = ["git", "-c", "protocol.version=2", "-c", "advice.detachedHead=false"]
    subprocess.run([*git, "init", "-q", str(tmp_path / "w")], check=True)
    subprocess.run([*git, "fetch", "-q", address, sha], cwd=tmp_path / "w", check=True, timeout=30)
    for ref in ("refs/heads/main", f"refs/pull/{number}/head", "refs/dstack/work/x"):
        push = subprocess.run(
            [*git, "push", "-q", address, f"{sha}:{ref}"], cwd=tmp_path / "w", capture_output=True, timeout=30
        )
        assert push.returncode != 0, ref
    assert held.finish("failed", reason="exit_code", exit_code=1).status_code == 204


@pytest.mark.parametrize("who", [READER, "", "dstack-fan"])
def test_who_may_not_write_approves_nothing(scene: Forks, who: str) -> None:
    number = scene.fork_pull("mallory")
    sha = scene.head(number)
    scene.say(number, f"/dstack approve {sha}", author=who or "mallory")
    assert all(scene.now(run).is_held for run in scene.runs_of(number))
    assert not [a for a in scene.approvals() if a.sha == sha]


def test_another_commit_than_the_head_is_not_approved(scene: Forks) -> None:
    number = scene.fork_pull()
    old = scene.head(number)
    new = scene.push_pull(number)
    for wrong in (old, old[:7], "0" * 40, new[:6]):
        scene.say(number, f"/dstack approve {wrong}")
        assert all(scene.now(run).is_held for run in scene.runs_of(number, new))
    assert not [a for a in scene.approvals() if a.number == number]


def test_a_push_voids_the_approval_and_supersedes_what_waited(scene: Forks) -> None:
    number = scene.fork_pull()
    first = scene.head(number)
    held = scene.runs_of(number)
    second = scene.push_pull(number)
    assert {scene.state(run)[:2] for run in held} == {("stopped", Reason.SUPERSEDED_BY)}
    waiting = scene.runs_of(number, second)
    assert {run.state for run in waiting} == {JobState.WAITING} and scene.waits_for(waiting[0]) == held_words(second)
    scene.say(number, f"/dstack approve {second[:10]}")
    running = scene.take(waiting[0])
    third = scene.push_pull(number)
    assert [scene.now(run).is_held for run in scene.runs_of(number, third)] == [True, True]
    assert scene.now(waiting[0]).state is JobState.RUNNING  # what was looked at may end
    assert running.finish("failed", reason="exit_code", exit_code=1).status_code == 204
    again = scene.api.ok("POST", f"/api/v1/runs/{waiting[0].name}/restart")["runs"][0]
    assert (again["state"], again["reason"]) == ("waiting", held_words(second))  # not the head any more
    assert first != second != third


def test_an_earlier_head_that_comes_back_waits_for_its_approval_again(scene: Forks) -> None:
    number = scene.fork_pull()
    pull, first = scene.pull(number), scene.head(number)
    second = scene.push_pull(number)
    scene.fake.force_push(pull.head_repo, pull.head_branch, first, pull.author)
    scene.settle()
    assert {scene.state(run)[0] for run in scene.runs_of(number, second)} == {"stopped"}
    again = scene.runs_of(number, first)[2:]
    assert [(run.workflow, run.is_held, run.state) for run in again] == [
        ("train", True, JobState.WAITING), ("evaluate", True, JobState.WAITING),
    ]  # fmt: skip
    scene.say(number, f"/dstack approve {first[:7]}")
    assert {scene.now(run).approved_by for run in again} == {WRITER}
    assert scene.now(again[0]).state in (JobState.QUEUED, JobState.OFFERED)
    assert scene.waits_for(again[1]) == f"waits for train ({again[0].name})"


def test_who_was_approved_once_waits_again(scene: Forks) -> None:
    """The rule that CVE-2026-58424 was about."""
    number = scene.fork_pull("carol")
    scene.say(number, f"/dstack approve {scene.head(number)}")
    other = scene.fork_pull("carol")
    assert all(run.is_held for run in scene.runs_of(other))
    assert not any(run.is_held for run in scene.runs_of(number))


def test_a_name_in_a_commit_is_nobodys_word(scene: Forks) -> None:
    """CVE-2026-58370: the author of a commit is whatever its maker typed."""
    number = scene.fork_pull("dave", commit_author=WRITER)
    (train, _) = scene.runs_of(number)
    assert train.author.startswith(WRITER) and train.is_held and not train.trusted


def test_a_fork_that_is_gone_still_counts_as_one(scene: Forks) -> None:
    number = scene.fork_pull("erin")
    sha = scene.head(number)
    scene.fake.delete_repo("erin/vision")
    scene.fake.close_pull(REPO, number)
    scene.fake.reopen(REPO, number)
    scene.settle()
    assert scene.pull(number).is_fork
    assert all(run.is_held and not run.trusted for run in scene.runs_of(number, sha) if not run.state.is_final)


def test_a_pull_request_of_an_own_branch_is_trusted(scene: Forks) -> None:
    branch = f"own{next(scene.numbers)}"
    sha = scene.fake.commit(REPO, branch, {"train.py": "print('own')\n"}, "Own", WRITER, parent=scene.fake.head(REPO))
    number = scene.fake.open_pull(REPO, branch, author=WRITER)
    scene.settle()
    train = scene.runs_of(number, sha)[0]
    assert (train.trusted, train.needs_approval, train.objects) == (True, False, "")
    scene.say(number, f"/dstack approve {sha}")
    assert not [a for a in scene.approvals() if a.sha == sha]
    answer = scene.api.call("POST", f"/api/v1/runs/{train.name}/approve", json={})
    assert answer.status_code == 409 and "waits for no approval" in answer.json()["message"]
    scene.fake.close_pull(REPO, number)
    scene.settle()


def test_a_closed_pull_request_is_not_approved(scene: Forks) -> None:
    number = scene.fork_pull()
    sha = scene.head(number)
    scene.fake.close_pull(REPO, number)
    scene.settle()
    run = scene.runs_of(number)[0]
    assert scene.state(run)[:2] == ("stopped", Reason.SUPERSEDED_BY)
    answer = scene.api.call("POST", f"/api/v1/runs/{run.name}/approve", json={})
    assert answer.status_code == 409 and "is closed" in answer.json()["message"]
    assert not [a for a in scene.approvals() if a.sha == sha]


def test_a_stranger_stops_and_holds_up_nobody(scene: Forks) -> None:
    """`train` has a concurrency group: a pull request must not supersede the runs of main by being opened."""
    main = scene.fake.push(REPO, "main", {"train.py": f"print({next(scene.numbers)})\n"})
    scene.settle()
    (ours,) = scene.runs(main)
    number = scene.fork_pull()
    theirs = scene.runs_of(number)[0]
    assert ours.concurrency_group == "prod" and theirs.concurrency_group == f"untrusted {number}:prod"
    assert not scene.now(ours).state.is_final
    later = scene.fake.push(REPO, "main", {"train.py": f"print({next(scene.numbers)})\n"})
    scene.settle()
    (next_one,) = scene.runs(later)
    assert theirs.name not in scene.waits_for(next_one)
    assert scene.now(theirs).state is JobState.WAITING


def test_an_approval_filed_twice_is_one(scene: Forks) -> None:
    number = scene.fork_pull()
    sha = scene.head(number)
    (train, _) = scene.runs_of(number)
    body = {"number": number, "sha": sha, "by": WRITER, "gpu_seconds": 60.0}
    for guid in (f"a:{sha}", f"a:{sha}", f"b:{sha}"):
        scene.file("approved", guid, body)
    assert [a.gpu_seconds for a in scene.approvals() if a.sha == sha] == [60.0]
    assert scene.now(train).approved_by == WRITER and not scene.now(train).is_held


@pytest.mark.parametrize("sha", ["0" * 40, "abc", "", "HEAD"])
def test_a_filed_approval_of_something_else_fails_and_says_so(scene: Forks, sha: str) -> None:
    number = scene.fork_pull()
    body = {"number": number, "sha": sha, "by": WRITER, "gpu_seconds": None}
    settled = scene.file("approved", f"wrong:{number}:{sha}", body)
    assert settled.state is DeliveryState.FAILED and settled.reason
    assert all(scene.now(run).is_held for run in scene.runs_of(number))


def test_a_runner_that_takes_strangers_no_more_gets_no_order(scene: Forks) -> None:
    """It was offered a job a moment ago."""
    number = scene.fork_pull()
    (train, _) = scene.runs_of(number)
    scene.say(number, f"/dstack approve {train.sha}")
    offer = scene.taker.offer(train.name)
    had = scene.taker.capacity
    try:
        scene.taker.capacity = had | {"untrusted": False}
        scene.taker.poll()
        refused = scene.taker.call("POST", f"/api/v1/attempts/{offer['attempt']}/accept")
        assert refused.status_code == 409 and refused.json()["error"] == "lease_lost"
    finally:
        scene.taker.capacity = had
        scene.taker.poll()
    assert scene.now(train).started_at is None
    accepted = scene.taker.call("POST", f"/api/v1/attempts/{offer['attempt']}/accept")
    assert accepted.ok and accepted.json()["trusted"] is False


def test_a_pull_request_that_goes_elsewhere_now_is_looked_at_again(scene: Forks) -> None:
    """Whoever opened it may aim it at any branch, whose workflows count then."""
    number = scene.fork_pull()
    sha = scene.head(number)
    scene.say(number, f"/dstack approve {sha}")
    branch = f"old{next(scene.numbers)}"
    scene.fake.push(REPO, branch, {"x.py": "1\n"})
    scene.fake.edit_pull(REPO, number, base=branch)
    scene.settle()
    runs = [run for run in scene.runs_of(number) if run.base_branch == branch]
    assert [run.workflow for run in runs] == ["train", "evaluate"] and all(run.is_held for run in runs)
    scene.fake.edit_pull(REPO, number, base="main")
    scene.settle()
    wait_for(lambda: all(scene.state(run)[1] is Reason.SUPERSEDED_BY for run in runs))
    scene.fake.edit_pull(REPO, number, base=branch)
    scene.settle()
    scene.fake.comment(REPO, number, WRITER, f"/dstack approve {sha}", scene.fake.clock() + 1)
    scene.settle()
    assert [approval.base_branch for approval in scene.approvals() if approval.sha == sha] == [branch]


def test_a_button_seen_under_another_branch_approves_nothing(scene: Forks) -> None:
    """Aimed elsewhere while somebody was looking at it: other workflows would run than were looked at."""
    number = scene.fork_pull()
    (train, _), sha = scene.runs_of(number), scene.head(number)
    branch = f"old{next(scene.numbers)}"
    scene.fake.push(REPO, branch, {"x.py": "1\n"})
    scene.fake.edit_pull(REPO, number, base=branch)
    scene.settle()
    body = {"number": number, "sha": sha, "by": WRITER, "gpu_seconds": None, "base": train.base_branch}
    settled = scene.file("approved", f"elsewhere:{number}", body)
    assert settled.state is DeliveryState.FAILED and f"goes to {branch} now, not to main" in settled.reason
    assert scene.api.call("POST", f"/api/v1/runs/{train.name}/approve", json={}).status_code == 409
    assert [approval for approval in scene.approvals() if approval.sha == sha] == []
