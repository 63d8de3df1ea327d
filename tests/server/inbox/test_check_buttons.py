"""GitHub's buttons on our checks: run again, run all again, tag, approve; and who may press them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_github import CheckRun
from joined_github import FILE, REPO, Joined, joined
from served_api import wait_for

from dstack.git.pushes import RUN_REFS
from dstack.server.models import Delivery
from dstack.server.models.delivery import DeliveryState
from dstack.server.store.outbox import CHECK, due_targets
from dstack.wire.states import JobState

ANYONE = {FILE: "workflows:\n  - {name: train, provider: bash, commands: ['true'], on: [push, pull_request]}\n"}


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Joined]:
    with joined(tmp_path, ANYONE, github_write_gap_s=0) as scene:
        for login, permission in (("octocat", "write"), ("reader", "read"), ("stranger", "none")):
            scene.fake.set_permission(REPO, login, permission)
        yield scene


def ended(scene: Joined, state: str = "succeeded", check_id: str = "run:{name}") -> tuple[str, str, CheckRun]:
    """A push whose run has ended, and its check: commit, run, check."""
    sha = scene.fake.push(REPO, "main", {"a": state})
    scene.settle()
    (run,) = scene.runs(sha)
    runner = scene.api.runner()
    runner.take(run.name).end(state)
    scene.api.ok("DELETE", f"/api/v1/runners/{runner.name}")
    return sha, run.name, wait_for(lambda: completed(scene, sha, check_id.format(sha=sha, name=run.name)))


def completed(scene: Joined, sha: str, external_id: str) -> CheckRun | None:
    found = [check for check in scene.fake.checks(REPO, sha) if check.external_id == external_id]
    return found[0] if found and found[0].status == "completed" else None


def pressed(scene: Joined, event: str) -> Delivery:
    scene.settle()
    return scene.last(event)


def test_run_again(scene: Joined) -> None:
    sha, name, check = ended(scene, "failed")
    scene.fake.press_rerun(check.id)
    row = pressed(scene, "check_run.rerequested")
    new = scene.runs(sha)[1]
    assert (row.state, row.sender) == (DeliveryState.PROCESSED, "octocat")
    assert row.reason == f"{new.name} does the work of {name} again"
    assert (new.restarted_from, new.is_clean, new.state, new.created_by) == (name, True, JobState.QUEUED, "octocat")
    repo = scene.repo()
    assert repo is not None
    kept = f"{RUN_REFS}{new.name}"
    wait_for(lambda: scene.api.wiring.git.has_ref(str(repo.id), kept))


def test_run_again_while_it_runs_is_refused_in_words(scene: Joined) -> None:
    sha, _, check = ended(scene, "failed")
    scene.fake.press_rerun(check.id)
    pressed(scene, "check_run.rerequested")
    check.external_id = f"run:{scene.runs(sha)[1].name}"
    scene.fake.press_rerun(check.id)
    row = pressed(scene, "check_run.rerequested")
    assert row.state is DeliveryState.IGNORED and "has not ended" in row.reason
    wait_for(lambda: not check.suite.reset)
    assert len(scene.runs(sha)) == 2


def test_run_all_again(scene: Joined) -> None:
    sha, name, check = ended(scene)
    scene.fake.press_rerun_suite(check.suite)
    row = pressed(scene, "check_suite.rerequested")
    assert row.state is DeliveryState.PROCESSED
    assert [run.restarted_from for run in scene.runs(sha)] == [None, name]


def test_run_all_again_has_the_runs_that_speak_run_again(scene: Joined) -> None:
    """Two pull requests have one head: both their runs count there, and not the newest alone."""
    scene.fake.push(REPO, "dev", {"dev": "1"})
    sha = scene.fake.push(REPO, "topic", {"a": "1"})
    for base in ("main", "dev"):
        scene.fake.open_pull(REPO, "topic", base)
        scene.settle()
    first, *of_pulls = scene.runs(sha)
    scene.api.runner().take(first.name).end("failed")
    wait_for(lambda: all(run.state is JobState.FAILED for run in scene.runs(sha)))  # one work, one result
    check = wait_for(lambda: completed(scene, sha, f"run:{of_pulls[0].name}"))
    scene.fake.press_rerun_suite(check.suite)
    pressed(scene, "check_suite.rerequested")
    assert [run.restarted_from for run in scene.runs(sha)[3:]] == [run.name for run in of_pulls]


def test_what_cannot_run_again_is_told_again(tmp_path: Path) -> None:
    """It never had its inputs: the forge would wait for news of its checks for ever."""
    needs = "workflows:\n  - {{name: {}, provider: bash, commands: ['true'], on: push, depends-on: ['other:prod']}}\n"
    other = "  - {name: other, provider: bash, commands: ['true'], on: manual}\n"
    files = {FILE: needs.format("train") + needs.format("eval").partition("\n")[2] + other}
    with joined(tmp_path, files, github_write_gap_s=0) as scene:
        for login, permission in (("octocat", "write"), ("reader", "read")):
            scene.fake.set_permission(REPO, login, permission)
        sha = scene.fake.push(REPO, "main", {"a": "1"})
        scene.settle()
        checks = [wait_for(lambda n=run.name: completed(scene, sha, f"run:{n}")) for run in scene.runs(sha)]
        written = [check.updates for check in checks]
        for login, why in (("octocat", "never had its inputs"), ("reader", "reader may not write")):
            scene.fake.press_rerun_suite(checks[0].suite, login)
            row = pressed(scene, "check_suite.rerequested")
            assert row.state is DeliveryState.IGNORED and why in row.reason
            wait_for(lambda: told(scene, sha) and not checks[0].suite.reset)
        assert [check.updates for check in checks] == [times + 2 for times in written]
        scene.fake.press_rerun(checks[1].id)
        pressed(scene, "check_run.rerequested")
        wait_for(lambda: told(scene, sha) and not checks[0].suite.reset)
        assert [check.updates for check in checks] == [written[0] + 2, written[1] + 3], (
            "only the check that was asked for"
        )


def test_checks_of_a_head_that_was_left_keep_their_names(scene: Joined) -> None:
    scene.fake.push(REPO, "topic", {"a": "1"})
    number = scene.fake.open_pull(REPO, "topic")
    sha = scene.fake.head(REPO, "topic")
    scene.settle()
    scene.api.runner().take(scene.runs(sha)[0].name).end("succeeded")
    wait_for(lambda: {c.name for c in told(scene, sha)} == {"dstack / train", "dstack / train (push)"})
    before = [(check.name, check.updates) for check in scene.fake.checks(REPO, sha)]
    head = scene.fake.push_pull(REPO, number, {"a": "2"})
    scene.settle()
    wait_for(lambda: len(told(scene, head)) == 2)
    assert [(check.name, check.updates) for check in scene.fake.checks(REPO, sha)] == before


def told(scene: Joined, sha: str) -> list[CheckRun]:
    """The checks once nothing more is to be told of any."""
    waits = scene.api.wiring.db.read(lambda s: due_targets(s, [CHECK], scene.api.clock.now()))
    return [] if waits else scene.fake.checks(REPO, sha)


def test_tag_latest(scene: Joined) -> None:
    _, name, check = ended(scene)
    scene.fake.press_action(check.id, "tag-latest", "octocat")
    assert pressed(scene, "check_run.requested_action").reason == f"train:latest is on {name}"
    (tag,) = scene.api.ok("GET", "/api/v1/tags")
    assert (tag["tag"], tag["run"], tag["moved_by"]) == ("train:latest", name, "octocat")


def test_who_may_not_write_presses_in_vain(scene: Joined) -> None:
    sha, _, check = ended(scene)
    for login in ("reader", "stranger", "unknown"):
        scene.fake.press_rerun(check.id, login)
        scene.fake.press_rerun_suite(check.suite, login)
        scene.fake.press_action(check.id, "tag-latest", login)
        for event in ("check_run.rerequested", "check_suite.rerequested", "check_run.requested_action"):
            row = pressed(scene, event)
            assert row.state is DeliveryState.IGNORED and row.reason == f"{login} may not write to {REPO}"
    assert len(scene.runs(sha)) == 1 and scene.api.ok("GET", "/api/v1/tags") == []


def test_while_nobody_knows_who_may_it_waits(scene: Joined, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dstack.server.lanes._AGAIN_AT_FORGE_S", (0.1, 0.1))
    sha, _, check = ended(scene)
    scene.fake.faults.error(503, path="/collaborators/")
    scene.fake.press_rerun(check.id)
    scene.fake.flush()
    assert len(scene.runs(sha)) == 1
    scene.fake.faults.clear()
    pressed(scene, "check_run.rerequested")
    assert len(scene.runs(sha)) == 2


def test_a_check_that_is_not_ours_is_left_alone(scene: Joined) -> None:
    sha, _, check = ended(scene)
    for external_id in ("run:no-such-run-1", "commit", "", "run:", "other:1"):
        check.external_id = external_id
        scene.fake.press_rerun(check.id)
        row = pressed(scene, "check_run.rerequested")
        assert row.state is DeliveryState.IGNORED and row.reason == "it is not a check of a run here"
    assert len(scene.runs(sha)) == 1


def test_one_check_for_all_runs_of_a_commit_has_buttons_too(tmp_path: Path) -> None:
    with joined(tmp_path, ANYONE, github_write_gap_s=0, github_checks="push") as scene:
        scene.fake.set_permission(REPO, "octocat", "write")
        fork = scene.fake.fork(REPO, "stranger")
        sha = scene.fake.push(fork, "topic", {"a": "1"}, author="stranger")
        scene.fake.open_pull(REPO, "topic", head_repo=fork, author="stranger")
        scene.settle()
        check = wait_for(lambda: completed(scene, sha, f"commit:{sha}"))
        (button,) = check.actions
        assert (check.conclusion, button["label"]) == ("action_required", "Approve")
        scene.fake.press_action(check.id, button["identifier"])
        pressed(scene, "check_run.requested_action")
        (run,) = scene.runs(sha)
        assert (run.approved_by, run.state) == ("octocat", JobState.QUEUED)
        sha, name, check = ended(scene, check_id="commit:{sha}")
        scene.fake.press_action(check.id, check.actions[0]["identifier"])
        assert pressed(scene, "check_run.requested_action").reason == f"train:latest is on {name}"
        for identifier in ("approve:999", "approve:x", "tag-latest", f"tag-latest:{run.id}"):
            check.actions = [{**check.actions[0], "identifier": identifier}]
            scene.fake.press_action(check.id, identifier)
            assert pressed(scene, "check_run.requested_action").reason == "it is not a check of a run here"


def test_config_run_again_reads_the_files_anew(scene: Joined) -> None:
    """What they name elsewhere is mended meanwhile: here another repository's provider."""
    provider = "{repo: acme/providers, ref: v1, name: sweep}"
    text = f"workflows:\n  - {{name: train, provider: {provider}, on: [push, pull_request]}}\n"
    sha = scene.fake.push(REPO, "topic", {FILE: text})
    number = scene.fake.open_pull(REPO, "topic")
    scene.settle()
    assert scene.runs(sha) == []
    check = wait_for(lambda: completed(scene, sha, f"config:{sha}"))
    assert check.conclusion == "failure" and "acme/providers" in check.output["title"]
    wait_for(lambda: scene.fake.statuses(REPO, sha)["dstack/config"].state == "error")
    scene.fake.press_rerun(check.id)
    assert pressed(scene, "check_run.rerequested").reason == f"the workflow files at {sha[:7]} are read again"
    assert scene.runs(sha) == []
    wait_for(lambda: not check.suite.reset)  # also where nothing has changed
    copy = scene.api.working_copy("acme/providers")
    copy.commit({".dstack/providers.yaml": "providers: [{name: sweep, commands: python sweep.py}]\n"})
    copy.git("tag", "v1")
    copy.push()
    copy.push("v1")
    handled = len(scene.deliveries())
    scene.fake.press_rerun_suite(check.suite)
    pressed(scene, "check_suite.rerequested")
    assert [(run.trigger.value, run.pull_request) for run in scene.runs(sha)] == [
        ("pull_request", number),
        ("push", None),
    ]
    assert len([d for d in scene.deliveries()[handled:] if d.replay_of is not None]) == 1, (
        "what was told, not its replays"
    )
    wait_for(lambda: check.conclusion == "success")
    wait_for(lambda: scene.fake.statuses(REPO, sha)["dstack/config"].state == "success")
    scene.fake.press_rerun(check.id)
    pressed(scene, "check_run.rerequested")
    assert len(scene.runs(sha)) == 2, "nothing twice"


def test_a_held_forks_button_approves_its_commit(scene: Joined) -> None:
    fork = scene.fake.fork(REPO, "stranger")
    sha = scene.fake.push(fork, "topic", {"a": "1"}, author="stranger")
    scene.fake.open_pull(REPO, "topic", head_repo=fork, author="stranger")
    scene.settle()
    (run,) = scene.runs(sha)
    assert run.state is JobState.WAITING
    check = wait_for(lambda: completed(scene, sha, f"run:{run.name}"))
    assert check.conclusion == "action_required"
    scene.fake.press_action(check.id, "approve", "stranger")
    assert pressed(scene, "check_run.requested_action").state is DeliveryState.IGNORED
    assert scene.runs(sha)[0].state is JobState.WAITING
    scene.fake.press_action(check.id, "approve", "octocat")
    pressed(scene, "check_run.requested_action")
    (run,) = scene.runs(sha)
    assert (run.approved_by, run.state, run.trusted) == ("octocat", JobState.QUEUED, False)
