"""A push that changes nothing a workflow reads is no more green than the commit before it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from joined_github import FILE, REPO, Joined, joined
from served_api import ARunner, wait_for

from dstack.server.models import Run
from dstack.server.services.prune import prune
from dstack.wire.api import PruneRequest

ENTRY = "{name: train, provider: bash, commands: ['true'], paths: ['src/**'], on: {push: {branches: [main, old]}}%s}"


def entry(more: str = "") -> dict[str, str]:
    return {FILE: f"workflows:\n  - {ENTRY % more}\n"}


@dataclass
class Carried(Joined):
    """With one runner: an offer to another would have to run out first."""

    runner: ARunner | None = None


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Carried]:
    with joined(tmp_path, entry(), github_write_gap_s=0) as made:
        yield Carried(made.api, made.fake, made.app, made.installation, made.api.runner())


def push(scene: Carried, files: dict[str, str], message: str = "Change") -> str:
    sha = scene.fake.push(REPO, "main", files, message)
    scene.settle()
    return sha


def end(scene: Carried, sha: str, state: str = "failed") -> Run:
    run = scene.runs(sha)[-1]
    assert scene.runner is not None
    more = {"reason": "exit_code", "exit_code": 1} if state == "failed" else {}
    scene.runner.take(run.name).end(state, **more)
    return run


def told(scene: Carried, sha: str, state: str) -> str:
    """What `dstack/train` says there, once it is in this state."""

    def found() -> bool:
        status = scene.fake.statuses(REPO, sha).get("dstack/train")
        return status is not None and status.state == state

    wait_for(found)
    return scene.fake.statuses(REPO, sha)["dstack/train"].description


def test_a_failure_is_still_there_after_words_alone(scene: Carried) -> None:
    broken = push(scene, {"src/a.py": "1"})
    run = end(scene, broken)
    readme, again = push(scene, {"README.md": "1"}), push(scene, {"README.md": "2"})
    said = f"{run.name} failed at {broken[:7]}; nothing it reads changed since"
    assert told(scene, readme, "failure") == told(scene, again, "failure") == said
    assert scene.fake.statuses(REPO, again)["dstack/train"].target_url.endswith(f"/runs/{run.name}")
    assert scene.runs(readme) == scene.runs(again) == []
    mended = push(scene, {"src/a.py": "2"})
    end(scene, mended, "succeeded")
    assert told(scene, push(scene, {"README.md": "3"}), "success").startswith("not needed: nothing it reads")
    assert told(scene, again, "failure") == said


def test_what_goes_on_is_pending_and_told_when_it_ends(scene: Carried) -> None:
    sha = push(scene, {"src/a.py": "1"})
    first, second = push(scene, {"README.md": "1"}), push(scene, {"README.md": "2"})
    assert "goes on at" in told(scene, first, "pending") and "goes on at" in told(scene, second, "pending")
    end(scene, sha)
    assert "failed at" in told(scene, first, "failure") and "failed at" in told(scene, second, "failure")


def test_a_retry_that_succeeds_turns_the_heads_green(scene: Carried) -> None:
    """What is a head no more keeps what it was told: very many commits may lie behind one that speaks."""
    sha = push(scene, {"src/a.py": "1"})
    run = end(scene, sha)
    heads = [push(scene, {"README.md": text}) for text in "12"]
    for head in heads:
        told(scene, head, "failure")
    scene.api.ok("POST", f"/api/v1/runs/{run.name}/restart", json={})
    told(scene, heads[1], "pending")
    end(scene, sha, "succeeded")
    assert told(scene, heads[1], "success").startswith("not needed")
    assert [status.state for status in scene.fake.all_statuses(REPO, heads[0])] == ["failure"]


def test_a_forced_push_away_from_a_failure_takes_it_along(scene: Carried) -> None:
    """What is read there is the same, though the failed commit is in no history any more; and so after the next one."""
    start = scene.fake.head(REPO, "main")
    broken = push(scene, {"src/a.py": "1"})
    end(scene, broken)
    aside = scene.fake.commit(REPO, "aside", {"src/a.py": "1", "README.md": "1"}, parent=start)
    scene.fake.force_push(REPO, "main", aside)
    scene.settle()
    assert broken[:7] in told(scene, aside, "failure")
    assert broken[:7] in told(scene, push(scene, {"README.md": "2"}), "failure")


def test_what_speaks_for_a_forced_push_goes_on(scene: Carried) -> None:
    """It takes turns and was left behind; yet nothing else tells whether what is read there is good."""
    start, files = scene.fake.head(REPO, "main"), entry(", concurrency: one") | {"src/a.py": "1"}
    first = push(scene, files)
    aside = scene.fake.commit(REPO, "aside", files | {"README.md": "1"}, parent=start)
    scene.fake.force_push(REPO, "main", aside)
    scene.settle()
    assert "goes on at" in told(scene, aside, "pending")
    end(scene, first, "succeeded")
    assert told(scene, aside, "success").startswith("not needed")


def test_a_failure_that_speaks_for_a_head_is_not_pruned(scene: Carried) -> None:
    older, broken = push(scene, {"src/a.py": "0"}), ""
    end(scene, older)
    for number in range(2):  # the head itself first, then one that carries it
        sha = push(scene, {"README.md": str(number)} if broken else {"src/a.py": "1"})
        broken = broken or sha
        if sha == broken:
            end(scene, broken)
        told(scene, sha, "failure")
        scene.api.clock.ahead += 40 * 86_400
        prune(scene.api.wiring, PruneRequest(days=30, dry_run=False))
        assert scene.runs(older) == [] and len(scene.runs(broken)) == 1
    assert broken[:7] in told(scene, push(scene, {"README.md": "2"}), "failure")


def test_a_commit_that_was_skipped_ends_it(scene: Carried) -> None:
    """Whoever wrote that took it upon them; what was read before says nothing of what is read now."""
    end(scene, push(scene, {"src/a.py": "1"}))
    skipped = push(scene, {"src/a.py": "2"}, "Mend [skip ci]")
    assert told(scene, skipped, "success") == "not needed: the commit message says [skip ci]"
    assert told(scene, push(scene, {"README.md": "1"}), "success").startswith("not needed")


def test_another_entry_ends_it(scene: Carried) -> None:
    end(scene, push(scene, {"src/a.py": "1"}))
    assert told(scene, push(scene, entry(", env: {A: b}")), "success").startswith("not needed")
    end(scene, push(scene, {"src/a.py": "2"}))
    assert "failed at" in told(scene, push(scene, entry(", env: {A: b}, help: Better words")), "failure")


def test_a_branch_that_is_new_carries_nothing_over(scene: Carried) -> None:
    """What has changed there is not known, so it starts."""
    broken = push(scene, {"src/a.py": "1"})
    end(scene, broken)
    sha = scene.fake.push(REPO, "old", {"README.md": "1"}, parent=broken)
    scene.settle()
    assert len(scene.runs(sha)) == 1


def test_a_push_that_is_none_of_its_own_takes_nothing_back(scene: Carried) -> None:
    """The same commit, pushed to a branch that it never runs on."""
    end(scene, push(scene, {"src/a.py": "1"}))
    readme = push(scene, {"README.md": "1"})
    told(scene, readme, "failure")
    scene.fake.force_push(REPO, "elsewhere", readme)
    scene.settle()
    end(scene, push(scene, {"src/a.py": "3"}))  # by now it would have been told
    assert "failed at" in told(scene, readme, "failure")


def test_a_push_whose_news_come_late_still_speaks_for_those_after_it(scene: Carried) -> None:
    scene.fake.webhooks.lose(1, "push")
    broken = push(scene, {"src/a.py": "1"})
    lost = next(delivery for delivery in reversed(scene.fake.webhooks.log) if delivery.event == "push")
    heads = [push(scene, {"README.md": text}) for text in "12"]
    for head in heads:
        told(scene, head, "success")
    scene.fake.webhooks.redeliver(lost)
    scene.settle()
    told(scene, heads[-1], "pending")
    end(scene, broken)
    assert broken[:7] in told(scene, heads[-1], "failure")


def test_files_that_cannot_be_read_are_told_of_and_what_mends_them_is_judged(scene: Carried) -> None:
    """Of a pull request as of a push; the commit after looks back at one that says nothing."""
    files = entry()[FILE] + "  - {name: lint, provider: bash, commands: ['true'], on: [push, pull_request]}\n"
    huge = {FILE: f"{files}# {'x' * 1_100_000}\n"}
    broken, topic = push(scene, huge), scene.fake.push(REPO, "topic", huge | {"a": "1"})
    scene.fake.open_pull(REPO, "topic")
    scene.settle()
    for sha in (broken, topic):
        wait_for(lambda sha=sha: "dstack/config" in scene.fake.statuses(REPO, sha))  # type: ignore[misc]
        status = scene.fake.statuses(REPO, sha)["dstack/config"]
        assert status.state == "error" and "1048576 is the limit" in status.description
    assert [(row.state.value, row.tries) for row in scene.deliveries("pull_request.opened")] == [("failed", 0)]
    mended = push(scene, {FILE: files})
    assert [run.workflow for run in scene.runs(mended)] == ["lint"]
    assert told(scene, mended, "success").startswith("not needed")
