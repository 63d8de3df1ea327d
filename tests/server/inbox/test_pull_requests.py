"""Pull requests at the forge: what runs at their head, what gives way, what is answered for without a run."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from joined_github import FILE, REPO, Joined, joined, workflows
from served_api import Held, wait_for

from dstack.server.models import OutboxMark
from dstack.server.models.delivery import DeliveryState
from dstack.server.services.supersede_pull import CLOSED
from dstack.wire.states import JobState, Reason, Trigger


def names(scene: Joined, sha: str) -> list[str]:
    return sorted(run.workflow for run in scene.runs(sha))


def test_opened_and_moved(scene: Joined) -> None:
    first = scene.fake.push(REPO, "topic", {"a.py": "1"})
    number = scene.fake.open_pull(REPO, "topic", title="Better")
    scene.settle()
    assert names(scene, first) == ["check", "train"]
    run = next(run for run in scene.runs(first) if run.workflow == "check")
    assert (run.pull_request, run.base_branch, run.branch, run.trigger) == (number, "main", "topic", "pull_request")
    assert run.is_clean and run.trusted and not run.needs_approval and run.objects == ""
    pull = scene.pull(number)
    assert (pull.title, pull.head_sha, pull.is_fork, pull.is_open, pull.author) == (
        "Better",
        first,
        False,
        True,
        "octocat",
    )

    second = scene.fake.push_pull(REPO, number, {"a.py": "2"})
    scene.settle()
    (older,) = [run for run in scene.runs(first) if run.workflow == "check"]
    (newer,) = [run for run in scene.runs(second) if run.workflow == "check"]
    assert (older.state, older.reason, older.message) == (JobState.STOPPED, Reason.SUPERSEDED_BY, newer.name)
    assert newer.state is JobState.QUEUED
    # A push is nobody's business but its own: two pushes of a branch both run.
    assert all(run.state is JobState.QUEUED for run in scene.runs() if run.workflow == "train")
    assert scene.pull(number).head_sha == second


def test_a_run_that_has_started_goes_on(scene: Joined) -> None:
    first = scene.fake.push(REPO, "topic", {FILE: scene_file_for_anyone(), "a": "1"})
    number = scene.fake.open_pull(REPO, "topic")
    scene.settle()
    held = take(scene, first)
    held.state("running")
    second = scene.fake.push_pull(REPO, number, {"a": "2"})
    scene.settle()
    states = {run.sha: run.state for run in scene.runs() if run.workflow == "check"}
    assert states.keys() == {first, second} and states[first] is JobState.RUNNING
    assert states[second] in (JobState.QUEUED, JobState.OFFERED), "and the new one does not wait for it"


def scene_file_for_anyone() -> str:
    return "workflows:\n  - {name: check, provider: bash, commands: ['true'], on: pull_request}\n"


def take(scene: Joined, sha: str) -> Held:
    (run,) = [run for run in scene.runs(sha) if run.workflow == "check"]
    return scene.api.runner().take(run.name)


def test_a_draft_waits_until_it_is_ready(scene: Joined) -> None:
    sha = scene.fake.push(REPO, "topic", {"a.py": "1"})
    number = scene.fake.open_pull(REPO, "topic", draft=True)
    scene.settle()
    assert names(scene, sha) == ["train"]
    assert scene.not_needed(sha) == {"check": "the pull request is a draft"}
    assert scene.last("pull_request.opened").state is DeliveryState.IGNORED
    repo = scene.repo()
    assert repo is not None
    mark = scene.api.wiring.db.read(lambda s: s.get(OutboxMark, ("status", f"{repo.id}:{sha}")))
    assert mark is not None or scene.fake.statuses(REPO, sha), "its status is said, not left to hang"
    scene.fake.ready(REPO, number)
    scene.settle()
    assert names(scene, sha) == ["check", "train"]
    assert scene.not_needed(sha) == {}
    scene.fake.to_draft(REPO, number)
    scene.settle()
    assert scene.pull(number).is_draft
    assert all(run.state is JobState.QUEUED for run in scene.runs(sha))


def test_a_closed_one_stops_what_has_not_started_and_goes_on_when_reopened(scene: Joined) -> None:
    sha = scene.fake.push(REPO, "topic", {"a.py": "1"})
    number = scene.fake.open_pull(REPO, "topic")
    scene.settle()
    scene.fake.close_pull(REPO, number)
    scene.settle()
    (run,) = [run for run in scene.runs(sha) if run.workflow == "check"]
    assert (run.state, run.reason, run.message) == (JobState.STOPPED, Reason.SUPERSEDED_BY, CLOSED)
    assert not scene.pull(number).is_open
    assert scene.last("pull_request.closed").reason == f"#{number} was closed; 1 run was stopped"
    scene.fake.reopen(REPO, number)
    scene.settle()
    stopped, again = [run for run in scene.runs(sha) if run.workflow == "check"]
    assert stopped.id == run.id and again.state is JobState.QUEUED and again.is_clean
    scene.fake.reopen(REPO, number)
    scene.settle()
    assert len([run for run in scene.runs(sha) if run.workflow == "check"]) == 2


def test_what_needed_a_stopped_run_is_made_anew_with_it(tmp_path: Path) -> None:
    text = workflows(prepare="manual", train="pull_request")[FILE]
    needing = {FILE: text.replace("name: train,", "name: train, depends-on: [prepare],")}
    with joined(tmp_path, needing) as scene:
        sha = scene.fake.push(REPO, "topic", {"a": "1"})
        number = scene.fake.open_pull(REPO, "topic")
        scene.settle()
        scene.fake.close_pull(REPO, number)
        scene.settle()
        assert {run.state for run in scene.runs(sha)} == {JobState.STOPPED}
        scene.fake.reopen(REPO, number)
        scene.settle()
        again = {run.workflow: run for run in scene.runs(sha)}
        assert (again["prepare"].state, again["train"].state) == (JobState.QUEUED, JobState.WAITING)
        assert again["prepare"].group_id == again["train"].group_id


def test_closing_stops_what_runs_only_where_the_workflow_says_so(tmp_path: Path) -> None:
    """A training of days is not thrown away because its pull request was merged."""
    one = "  - {name: %s, provider: bash, commands: ['true'], on: pull_request%s}\n"
    more = ", concurrency: {group: mine, cancel-running: true}"
    with joined(tmp_path, {FILE: "workflows:\n" + one % ("goes_on", "") + one % ("stops", more)}) as scene:
        sha = scene.fake.push(REPO, "topic", {"a": "1"})
        number = scene.fake.open_pull(REPO, "topic")
        scene.settle()
        runner = scene.api.runner()
        held = {run.workflow: runner.take(run.name) for run in scene.runs(sha)}
        for one in held.values():
            one.state("running")
        scene.fake.merge_pull(REPO, number)
        scene.settle()
        live = [one.attempt for one in held.values()]
        answer = runner.call(
            "POST", "/api/v1/runner/poll", json={"capacity": runner.capacity, "wait_s": 0, "live": live}
        )
        assert [stop["attempt"] for stop in answer.json()["stops"]] == [held["stops"].attempt]


def test_another_base_is_judged_anew(scene: Joined) -> None:
    scene.fake.push(REPO, "release", {"r": "1"})
    sha = scene.fake.push(REPO, "topic", {"a.py": "1"})
    number = scene.fake.open_pull(REPO, "topic")
    scene.settle()
    scene.fake.edit_pull(REPO, number, title="Another title")
    scene.settle()
    assert scene.last("pull_request.edited").reason == "only its text was edited"
    scene.fake.edit_pull(REPO, number, base="release")
    scene.settle()
    older, newer = [run for run in scene.runs(sha) if run.workflow == "check"]
    assert (older.base_branch, older.state, older.message) == ("main", JobState.STOPPED, newer.name)
    assert (newer.base_branch, newer.state) == ("release", JobState.QUEUED)


FILTERED = {
    "train": "{pull_request: {paths: ['src/**']}}",
    "docs": "{pull_request: {paths-ignore: ['src/**']}, push: {branches: [main]}}",
    "other": "{pull_request: {branches: [release]}}",
    "by_hand": "manual",
    "pushes": "{push: {branches: [main]}}",
}


def test_a_base_that_needs_nothing_is_answered_in_the_place_of_what_gave_way(scene: Joined) -> None:
    scene.fake.push(REPO, "dev", {"d": "1"})
    text = workflows(check="{pull_request: {branches: [main]}}")
    sha = scene.fake.push(REPO, "topic", text)
    number = scene.fake.open_pull(REPO, "topic")
    scene.settle()
    scene.fake.edit_pull(REPO, number, base="dev")
    scene.settle()
    (run,) = [run for run in scene.runs(sha) if run.workflow == "check"]
    assert (run.reason, run.message) == (Reason.SUPERSEDED_BY, "the base dev")

    def told(state: str) -> bool:
        status = scene.fake.statuses(REPO, sha).get("dstack/check")
        return status is not None and status.state == state

    wait_for(lambda: told("success"))
    scene.fake.edit_pull(REPO, number, base="main")
    scene.settle()
    assert [run.state for run in scene.runs(sha)] == [JobState.STOPPED, JobState.QUEUED]
    wait_for(lambda: told("pending"))


def test_statuses_that_may_be_required_are_answered(tmp_path: Path) -> None:
    """Changed paths come from Git: of the whole pull request, however many pushes it took, and not of its base."""
    with joined(tmp_path, workflows(**FILTERED)) as scene:
        scene.fake.push(REPO, "topic", {"src/a.py": "1"})
        scene.fake.push(REPO, "main", {"README.md": "meanwhile"})
        sha = scene.fake.push(REPO, "topic", {"notes.txt": "1"})
        scene.fake.open_pull(REPO, "topic")
        scene.settle()
        assert names(scene, sha) == ["docs", "train"]
        why = scene.not_needed(sha)
        assert set(why) == {"other", "pushes"}
        assert why["other"] == "the pull request goes to main, not to release"
        assert "fits none of its branches" in why["pushes"]

        readme = scene.fake.push(REPO, "readme", {"README.md": "2"})
        scene.fake.open_pull(REPO, "readme")
        scene.settle()
        assert names(scene, readme) == ["docs"]
        assert "no change fits the paths" in scene.not_needed(readme)["train"]


def test_a_skipped_commit_is_answered(scene: Joined) -> None:
    sha = scene.fake.push(REPO, "topic", {"a.py": "1"}, "Words only [skip ci]")
    scene.fake.open_pull(REPO, "topic")
    scene.settle()
    assert names(scene, sha) == []
    said = "the commit message says [skip ci]"
    assert scene.not_needed(sha) == {"train": said, "check": said}


def test_a_push_never_says_not_needed_for_what_its_pull_request_judges(tmp_path: Path) -> None:
    """Else a required status would be green until the pull request's own event has been judged."""
    on = "{push: {branches: [main], paths: [src/**]}, pull_request: {}}"
    with joined(tmp_path, workflows(train=on)) as scene:
        sha = scene.fake.push(REPO, "topic", {"a": "1"})
        scene.settle()
        assert scene.not_needed(sha) == {}
        on_main = scene.fake.push(REPO, "main", {"README.md": "1"})
        scene.settle()
        assert scene.not_needed(on_main) == {"train": "no change fits the paths of its trigger (src/**)"}


def test_problems_in_the_files_are_answered_with_the_line(scene: Joined) -> None:
    sha = scene.fake.push(REPO, "topic", {FILE: "workflows:\n  - {name: train, provider: bash, comands: x}\n"})
    scene.fake.open_pull(REPO, "topic")
    scene.settle()
    assert names(scene, sha) == []
    for event in ("push", "pull_request.opened"):
        row = scene.last(event)
        assert row.state is DeliveryState.FAILED and ".dstack/workflows.yaml:2:" in row.reason
    why = scene.not_needed(sha)["config"]
    assert why.startswith("config error: .dstack/workflows.yaml:2:")
    good = scene.fake.push(REPO, "topic", workflows(check="pull_request"))
    scene.settle()
    assert names(scene, good) == ["check"] and scene.not_needed(good) == {}


def test_a_problem_of_the_push_stands_whatever_its_pull_request_starts(scene: Joined) -> None:
    entry = "  - {name: far, provider: {repo: acme/providers, ref: v1, name: sweep}, on: push}\n"
    sha = scene.fake.push(REPO, "topic", {FILE: workflows(check="pull_request")[FILE] + entry})
    scene.fake.open_pull(REPO, "topic")
    scene.settle()
    assert names(scene, sha) == ["check"]
    wait_for(lambda: "dstack/check" in scene.fake.statuses(REPO, sha))
    scene.settle()
    assert scene.not_needed(sha)["config"].startswith("config error:")
    assert scene.fake.statuses(REPO, sha)["dstack/config"].state == "error"


def test_a_forks_pull_request_is_held_and_reads_the_bases_files(scene: Joined) -> None:
    fork = scene.fake.fork(REPO, "stranger")
    evil = workflows(check="pull_request", extra="pull_request")
    sha = scene.fake.push(fork, "topic", {**evil, "a.py": "1"}, author="stranger")
    number = scene.fake.open_pull(REPO, "topic", head_repo=fork, author="stranger")
    scene.settle()
    (run,) = scene.runs(sha)
    repo = scene.repo()
    assert repo is not None
    assert (run.workflow, run.trusted, run.needs_approval, run.approved_by) == ("check", False, True, "")
    assert run.state is JobState.WAITING and run.objects == f"{repo.id}-pull-{number}"
    assert not scene.api.wiring.git.has_commit(str(repo.id), sha), "a stranger's objects stay apart"
    assert scene.pull(number).is_fork and scene.pull(number).head_repo == fork.full_name
    # Pushes to a fork are told to nobody here: its required statuses are answered by the pull request.
    assert scene.not_needed(sha) == {"train": "it has no `on: pull_request`"}


def test_a_merge_group_is_answered(scene: Joined) -> None:
    """On the trial merge, which nobody pushed; and what its message took over from a pull request is no command."""
    main = scene.fake.head(REPO, "main")
    sha = scene.fake.commit(REPO, "trial", {"a.py": "1"}, "Merge #7: words only [skip ci]", parent=main)
    scene.fake.merge_group(REPO, "main", sha)
    scene.settle()
    (run,) = scene.runs(sha)
    assert (run.workflow, run.trigger, run.base_branch, run.is_clean) == ("check", Trigger.PUSH, "main", True)
    assert scene.not_needed(sha) == {"train": "it has no `on: pull_request`"}


def test_a_merge_group_that_was_dropped_stops_what_has_not_started(scene: Joined) -> None:
    main = scene.fake.head(REPO, "main")
    merged, dropped = (scene.fake.commit(REPO, f"trial-{n}", {"a.py": str(n)}, parent=main) for n in (1, 2))
    refs = [scene.fake.merge_group(REPO, "main", sha, number) for number, sha in ((1, merged), (2, dropped))]
    scene.settle()
    for ref, reason in zip(refs, ("merged", "dequeued"), strict=True):
        scene.fake.drop_merge_group(REPO, ref, "main", reason)
    scene.settle()
    assert [(run.state, run.message) for run in scene.runs(merged)] == [(JobState.QUEUED, "")], "it is main's now"
    (run,) = scene.runs(dropped)
    assert (run.state, run.reason, run.message) == (JobState.STOPPED, Reason.SUPERSEDED_BY, "merge group dropped")
    assert scene.last("merge_group.destroyed").reason == "the merge group was dequeued; 1 run was stopped"


@pytest.mark.parametrize("seed", range(3))
def test_doubled_and_shuffled_news_give_the_same_runs(scene: Joined, seed: int) -> None:
    scene.fake.webhooks.double(2)
    scene.fake.webhooks.hold()
    shas = [scene.fake.push(REPO, "topic", {"a.py": "0"})]
    number = scene.fake.open_pull(REPO, "topic")
    shas += [scene.fake.push_pull(REPO, number, {"a.py": str(n)}) for n in (1, 2)]
    other = scene.fake.push(REPO, "other", {"b.py": "0"})
    closed = scene.fake.open_pull(REPO, "other")
    scene.fake.close_pull(REPO, closed)
    scene.fake.webhooks.release(shuffle=random.Random(seed))
    scene.settle()
    made = sorted((run.workflow, run.sha) for run in scene.runs())
    assert made == sorted((name, sha) for name in ("check", "train") for sha in [*shas, other])
    states = {(run.workflow, run.sha): run.state for run in scene.runs()}
    assert [states["check", sha] for sha in shas] == [JobState.STOPPED, JobState.STOPPED, JobState.QUEUED]
    assert states["check", other] is JobState.STOPPED
    assert scene.pull(number).head_sha == shas[-1] and not scene.pull(closed).is_open


def test_a_strangers_message_skips_nothing(scene: Joined) -> None:
    """What is skipped is green, and a stranger wrote the message."""
    fork = scene.fake.fork(REPO, "skipper")
    sha = scene.fake.push(fork, "topic", {"a.py": "1"}, "Words only [skip ci]", author="skipper")
    scene.fake.open_pull(REPO, "topic", head_repo=fork, author="skipper")
    scene.settle()
    assert [(run.workflow, run.is_held) for run in scene.runs(sha)] == [("check", True)]
    assert "check" not in scene.not_needed(sha)


def test_one_that_is_too_large_is_fetched_once(scene: Joined, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scene.api.wiring.mirrors, "_max_bytes", -1)
    fork = scene.fake.fork(REPO, "stranger")
    scene.fake.push(fork, "topic", {"a": "1"}, author="stranger")
    number = scene.fake.open_pull(REPO, "topic", head_repo=fork, author="stranger")
    scene.settle()
    row = scene.last("pull_request.opened")
    assert (row.state, row.tries) == (DeliveryState.FAILED, 0) and "keep large files out" in row.reason
    assert scene.pull(number).handled, "looking finds nothing new there"
