"""What a commit's statuses say, as tables."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dstack.server.gateways.forge_writes import StatusState, StatusWrite
from dstack.server.models import Artifact, NotNeeded, Run
from dstack.server.models.run_facts import CommitFacts, RunFacts, TagFacts
from dstack.server.report.status import statuses_of
from dstack.server.report.words import number
from dstack.wire.states import JobState, Reason, Trigger, Verdict

SHA = "abc1234" + "0" * 33
BASE = Run(id=1, name="calm-crow-2", group_id=1, repo_id=1, workflow="train", sha="b" * 40, trigger=Trigger.PUSH,
           created_at=0, metrics={"accuracy": 0.922})  # fmt: skip
NOW = 1_800_000_000.0


def run(state: str = "succeeded", **more: Any) -> Run:
    given: dict[str, Any] = {
        "id": 7, "name": "brave-otter-17", "group_id": 1, "repo_id": 1, "workflow": "train", "sha": SHA,
        "trigger": Trigger.PUSH, "is_clean": True, "created_at": NOW - 300, "headline": "accuracy",
        "state": JobState(state),
    }  # fmt: skip
    if state not in ("waiting", "queued", "offered"):
        given["started_at"] = NOW - 192
    if JobState(state).is_final:
        given["finished_at"] = NOW
    return Run(**(given | more))


def one(the_run: Run, **facts: Any) -> tuple[str, str]:
    found = statuses_of(CommitFacts(SHA, [RunFacts(the_run, **facts)]), "http://d", NOW + 60)
    assert len(found) == 1 and found[0].url == "http://d/runs/brave-otter-17"
    return found[0].state.value, found[0].text


DONE = {"metrics": {"accuracy": 0.934}}
GATED = DONE | {"gate": "accuracy >= base - 0.01"}


@pytest.mark.parametrize(
    ("the_run", "facts", "state", "text"),
    [
        (run("queued"), {}, "pending", "queued"),
        (run("queued"), {"waits_for": "needs 4 GPUs; the largest runner has 1"}, "pending",
         "needs 4 GPUs; the largest runner has 1"),
        (run("waiting"), {"waits_for": "waits for prepare (calm-crow-2)"}, "pending",
         "waits for prepare (calm-crow-2)"),
        (run("waiting", needs_approval=True), {"waits_for": "whatever"}, "pending",
         "waits for approval: /dstack approve abc1234"),
        (run("queued", needs_approval=True, approved_by="ada"), {}, "pending", "queued"),
        (run("offered"), {}, "pending", "queued"),
        (run("preparing"), {"runners": ("runner-1",)}, "pending", "runner-1, since 07:56 UTC"),
        (run("running"), {"runners": ("runner-1", "runner-2", "x")}, "pending",
         "runner-1 and 2 more, since 07:56 UTC"),
        (run(), {}, "success", "3m 12s"),
        (run(**DONE), {}, "success", "3m 12s · accuracy 0.934"),
        (run(**DONE), {"base": BASE}, "success", "3m 12s · accuracy 0.934 (+0.012)"),
        (run(metrics={"accuracy": 0.9}), {"base": BASE}, "success", "3m 12s · accuracy 0.9 (-0.022)"),
        (run(metrics={"loss": 0.2}, headline=None), {}, "success", "3m 12s · loss 0.2"),
        (run(metrics={"loss": 0.2, "f1": 1}, headline=None), {}, "success", "3m 12s"),
        (run(**GATED, verdict=Verdict.PASSED), {"base": BASE}, "success", "3m 12s · accuracy 0.934 (+0.012)"),
        (run(**GATED, verdict=Verdict.NO_BASE), {}, "success", "3m 12s · accuracy 0.934 · first result"),
        (run(**GATED, verdict=Verdict.WITHIN_NOISE), {"base": BASE}, "success",
         "3m 12s · accuracy 0.934 (+0.012) · within noise"),
        (run(**GATED, verdict=Verdict.FAILED, verdict_why="accuracy 0.9 < 0.912"), {"base": BASE}, "failure",
         "gate failed: accuracy 0.9 < 0.912 · accuracy 0.934 (+0.012) · 3m 12s"),
        (run(**GATED, verdict=Verdict.PENDING), {"base": BASE}, "pending",
         "3m 12s · accuracy 0.934 (+0.012) · judged when calm-crow-2 lands"),
        (run(**GATED), {}, "pending", "3m 12s · accuracy 0.934 · judging"),
        (run(**DONE, adopted_id=1), {"adopted": BASE}, "success", "same as calm-crow-2 · accuracy 0.934"),
        (run(adopted_id=1), {"adopted": BASE}, "success", "same as calm-crow-2 · accuracy 0.922"),
        (run("failed", reason=Reason.EXIT_CODE, message="train.py: exit code 1"), {}, "failure",
         "failed after 3m 12s: train.py: exit code 1"),
        (run("failed", reason=Reason.OUT_OF_MEMORY), {}, "failure",
         "failed after 3m 12s: the machine ran out of memory"),
        (run("failed", reason=Reason.NO_SUCH_TAG, message="there is no tag raw:latest", started_at=None), {}, "failure",
         "failed: there is no tag raw:latest"),
        (run("stopped", reason=Reason.CANCELED_BY, message="ada"), {}, "failure", "stopped by ada after 3m 12s"),
        (run("stopped", reason=Reason.CANCELED_BY, message="budget of 4gpu-h used up"), {}, "failure",
         "stopped after 3m 12s: budget of 4gpu-h used up"),
        (run("stopped", reason=Reason.SUPERSEDED_BY, message="calm-crow-2"), {}, "error", "superseded by calm-crow-2"),
        (run("stopped", reason=Reason.SUPERSEDED_BY, message="pull request closed", started_at=None), {}, "error",
         "stopped: pull request closed"),
        (run("skipped", reason=Reason.DEPENDENCY_FAILED, message="prepare (calm-crow-2) failed"), {}, "failure",
         "skipped: prepare (calm-crow-2) failed"),
        (run("skipped", reason=Reason.NOT_NEEDED, message="no path matched"), {}, "success",
         "not needed: no path matched"),
    ],
)  # fmt: skip
def test_a_run_in_one_line(the_run: Run, facts: dict[str, Any], state: str, text: str) -> None:
    assert one(the_run, **facts) == (state, text)


@pytest.mark.parametrize(
    ("columns", "context"),
    [
        ({}, "dstack/train"),
        ({"trigger": Trigger.PULL_REQUEST}, "dstack/train"),
        ({"is_clean": False}, "dstack/train (manual)"),
        ({"is_clean": False, "trigger": Trigger.COMMENT}, "dstack/train (manual)"),
        ({"is_clean": False, "trigger": Trigger.TAG_MOVED}, "dstack/train (manual)"),
        ({"is_clean": False, "trigger": Trigger.EVENT}, "dstack/train (manual)"),
        ({"is_clean": False, "trigger": Trigger.SCHEDULE}, "dstack/train (schedule)"),
    ],
)
def test_only_clean_runs_write_the_status_that_may_be_required(columns: dict[str, Any], context: str) -> None:
    assert [s.context for s in all_of(run(**columns))] == [context]


def all_of(*runs: Run, **commit: Any) -> list[StatusWrite]:
    return statuses_of(CommitFacts(SHA, [RunFacts(r) for r in runs], **commit), "http://d", NOW + 60)


def test_the_newest_run_of_a_context_counts_and_others_beside_it() -> None:
    old, new = run("failed", name="old-one-1"), run("succeeded", id=8, name="new-one-2")
    tuned = run("failed", id=9, name="tuned-3", is_clean=False)
    found = {s.context: (s.state, s.url) for s in all_of(old, new, tuned)}
    assert found == {
        "dstack/train": (StatusState.SUCCESS, "http://d/runs/new-one-2"),
        "dstack/train (manual)": (StatusState.FAILURE, "http://d/runs/tuned-3"),
    }


def test_a_strangers_run_of_a_commit_that_was_pushed_here_says_nothing_of_it() -> None:
    """Anybody may open a pull request from a fork at any commit there is."""
    pushed, strangers = run("failed", id=5), run(id=9, trusted=False)
    (status,) = all_of(pushed, strangers)
    assert status.state is StatusState.FAILURE
    (status,) = all_of(run(id=5, trusted=False), run("failed", id=6, trusted=False))
    assert status.state is StatusState.FAILURE
    (status,) = all_of(run("failed", id=4, trusted=False), run(id=5))
    assert status.state is StatusState.SUCCESS


def test_ends_come_before_what_goes_on() -> None:
    runs = [run("running", workflow="a"), run("failed", workflow="b"), run("queued", workflow="c"), run(workflow="d")]
    assert [s.context for s in all_of(*runs)] == ["dstack/b", "dstack/d", "dstack/a", "dstack/c"]


def test_a_gate_about_to_be_asked_is_not_told_as_open() -> None:
    facts = CommitFacts(SHA, [RunFacts(run(**GATED))])
    assert statuses_of(facts, "http://d", NOW + 0.5) == []
    assert statuses_of(facts, "http://d", NOW + 5)[0].text.endswith("judging")


def row(workflow: str, why: str, is_problem: bool = False) -> NotNeeded:
    return NotNeeded(repo_id=1, sha=SHA, workflow=workflow, why=why, is_problem=is_problem, created_at=NOW)


def test_what_is_not_needed_is_answered_unless_a_run_says_more() -> None:
    rows = [row("train", "no path matched"), row("lint", "not needed: a draft")]
    found = {s.context: (s.state.value, s.text) for s in all_of(run("failed"), not_needed=rows)}
    assert found["dstack/train"][0] == "failure"
    assert found["dstack/lint"] == ("success", "not needed: a draft")
    assert all_of(run("failed", is_clean=False), not_needed=rows[:1])[1].text == "not needed: no path matched"


def test_files_with_problems_are_an_error() -> None:
    why = "config error: .dstack/workflows.yaml:3:5: unknown key\n.dstack/workflows.yaml:9:1: no name"
    (mended,) = all_of(not_needed=[row("config", "", is_problem=True)])
    assert (mended.context, mended.state.value) == ("dstack/config", "success")
    (status,) = all_of(not_needed=[row("config", why, is_problem=True)])
    assert (status.context, status.state) == ("dstack/config", StatusState.ERROR)
    assert status.text == "config error: .dstack/workflows.yaml:3:5: unknown key (and 1 more)"


@pytest.mark.parametrize(
    ("tag", "text"),
    [
        (TagFacts("train:best", "brave-otter-17", SHA), "on brave-otter-17"),
        (TagFacts("train:best", "calm-crow-2", "fed9876" + "0" * 33), "moved to fed9876"),
        (TagFacts("train:best"), "removed"),
    ],
)
def test_a_tag_says_where_it_stands(tag: TagFacts, text: str) -> None:
    (status,) = all_of(tags=[tag])
    assert (status.context, status.state.value, status.text) == ("dstack/tag/train:best", "success", text)


def artifact(path: str, size: int, digest: str = "12ab34cd56ef" + "0" * 52) -> Artifact:
    return Artifact(run_id=7, job_id=1, attempt_id="a", path=path, digest=digest, bytes=size, files=1, created_at=NOW)


def test_artifacts_are_told_together_with_the_first_digest() -> None:
    stored = (artifact("checkpoint", 1_200_000_000), artifact("logs", 34_000_000, "f" * 64))
    facts = CommitFacts(SHA, [RunFacts(run(), artifacts=stored), RunFacts(run("failed", id=9), artifacts=stored[:1])])
    found = {s.context: s.text for s in statuses_of(facts, "http://d", NOW + 60)}
    assert found["dstack/artifacts/train"] == "checkpoint, logs 1.2 GB · sha256:12ab34cd56ef…"
    many = tuple(artifact(f"artifact-number-{n}", n) for n in range(90))
    (_, status) = statuses_of(CommitFacts(SHA, [RunFacts(run(), artifacts=many)]), "http://d", NOW)
    assert len(status.text) <= 140 and status.text.endswith("4.0 KB · sha256:12ab34cd56ef…")


def test_artifacts_of_a_clean_run_go_before_those_of_a_tried_one() -> None:
    clean = RunFacts(run(), artifacts=(artifact("checkpoint", 1),))
    tuned = RunFacts(run(id=9, name="tuned-3", is_clean=False), artifacts=(artifact("checkpoint", 2),))
    found = {s.context: s.url for s in statuses_of(CommitFacts(SHA, [clean, tuned]), "http://d", NOW + 60)}
    assert found["dstack/artifacts/train"] == "http://d/runs/brave-otter-17"


@given(st.text(max_size=400))
def test_whatever_a_job_says_stays_one_line_of_140_characters(message: str) -> None:
    for state, reason in (("failed", Reason.EXIT_CODE), ("stopped", Reason.CANCELED_BY), ("skipped", None)):
        _, text = one(run(state, reason=reason, message=message))
        assert 0 < len(text) <= 140 and text.isprintable()


@pytest.mark.parametrize(
    ("value", "text"),
    [(12_340.4, "12340"), (999_999.6, "1000000"), (-1200.25, "-1200"), (0.5, "0.5"), (99.996, "100"), (3, "3")],
)  # fmt: skip
def test_numbers_keep_their_zeros(value: float, text: str) -> None:
    assert number(value) == text


ELSEWHERE = {"sha": "f00ba47" + "0" * 33}


@pytest.mark.parametrize(
    ("there", "state", "text"),
    [
        (run("failed", **ELSEWHERE), "failure", "brave-otter-17 failed at f00ba47; nothing it reads changed since"),
        (run("stopped", **ELSEWHERE), "failure",
         "brave-otter-17 was stopped at f00ba47; nothing it reads changed since: dstack restart brave-otter-17"),
        (run("stopped", reason=Reason.SUPERSEDED_BY, **ELSEWHERE), "error",
         "brave-otter-17 was stopped at f00ba47; nothing it reads changed since: dstack restart brave-otter-17"),
        (run("skipped", reason=Reason.DEPENDENCY_FAILED, **ELSEWHERE), "failure",
         "brave-otter-17 was skipped at f00ba47; nothing it reads changed since"),
        (run(verdict=Verdict.FAILED, gate="a > 1", **ELSEWHERE), "failure",
         "brave-otter-17 failed its gate at f00ba47; nothing it reads changed since"),
        (run(verdict=Verdict.PENDING, gate="a > 1", **ELSEWHERE), "pending",
         "brave-otter-17 waits for its verdict at f00ba47; nothing it reads changed since"),
        (run("running", **ELSEWHERE), "pending", "brave-otter-17 goes on at f00ba47; nothing it reads changed since"),
        (run("waiting", **ELSEWHERE), "pending", "brave-otter-17 goes on at f00ba47; nothing it reads changed since"),
        (run("succeeded", **ELSEWHERE), "success", "not needed: nothing it reads has changed (src)"),
        (None, "success", "not needed: nothing it reads has changed (src)"),
    ],
)  # fmt: skip
def test_a_commit_that_another_speaks_for_is_no_more_green(there: Run | None, state: str, text: str) -> None:
    why = "nothing it reads has changed (src)"
    row = NotNeeded(repo_id=1, sha=SHA, workflow="train", why=why, carried_sha=ELSEWHERE["sha"], created_at=0)
    carried = {"train": RunFacts(there)} if there else {}
    (found,) = statuses_of(CommitFacts(SHA, not_needed=[row], carried=carried), "http://d", NOW + 60)
    assert (found.context, found.state.value, found.text) == ("dstack/train", state, text)
    own = RunFacts(run("succeeded", id=9, name="own-run-1"))
    (found,) = statuses_of(CommitFacts(SHA, [own], [row], carried=carried), "http://d", NOW + 60)
    assert (found.state.value, found.url) == ("success", "http://d/runs/own-run-1")


def test_what_speaks_and_is_about_to_be_judged_leaves_what_stands() -> None:
    row = NotNeeded(repo_id=1, sha=SHA, workflow="train", why="x", carried_sha=ELSEWHERE["sha"], created_at=0)
    there = RunFacts(run(gate="a > 1", **ELSEWHERE))
    assert statuses_of(CommitFacts(SHA, not_needed=[row], carried={"train": there}), "http://d", NOW) == []
