"""What a check shows: its state, Markdown that nothing breaks out of, sizes GitHub takes, buttons."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from dstack.server.models import Artifact, Run
from dstack.server.models.run_facts import CommitFacts, RunFacts
from dstack.server.report.check import (
    APPROVE,
    MOST_BYTES,
    TAG_LATEST,
    CheckDetail,
    check_of_commit,
    check_of_problems,
    check_of_run,
)
from dstack.wire.states import JobState, Reason, Trigger, Verdict

SHA = "abc1234" + "0" * 33
NOW = 1_800_000_000.0


def run(state: str = "succeeded", **more: Any) -> Run:
    given: dict[str, Any] = {
        "id": 7, "name": "brave-otter-17", "group_id": 1, "repo_id": 1, "workflow": "train", "sha": SHA,
        "trigger": Trigger.PUSH, "is_clean": True, "created_at": NOW - 300, "headline": "accuracy",
        "state": JobState(state), "metrics": {"accuracy": 0.934, "loss": 0.2}, "variables": {"lr": "0.01"},
    }  # fmt: skip
    if JobState(state).is_final or JobState(state).is_live:
        given["started_at"] = NOW - 192
    if JobState(state).is_final:
        given["finished_at"] = NOW
    return Run(**(given | more))


BASE = run(id=1, name="calm-crow-2", metrics={"accuracy": 0.922})


def check(the_run: Run, detail: CheckDetail | None = None, **facts: Any):  # type: ignore[no-untyped-def]
    return check_of_run(RunFacts(the_run, **facts), detail or CheckDetail(), "http://d")


GATED = {"gate": "accuracy >= base"}


@pytest.mark.parametrize(
    ("the_run", "status", "conclusion"),
    [
        (run("waiting"), "queued", ""),
        (run("queued"), "queued", ""),
        (run("offered"), "queued", ""),
        (run("preparing"), "in_progress", ""),
        (run("running"), "in_progress", ""),
        (run("saving"), "in_progress", ""),
        (run("waiting", needs_approval=True), "completed", "action_required"),
        (run("queued", needs_approval=True, approved_by="ada"), "queued", ""),
        (run("stopped", needs_approval=True, reason=Reason.SUPERSEDED_BY), "completed", "cancelled"),
        (run(), "completed", "success"),
        (run(**GATED), "in_progress", ""),
        (run(**GATED, verdict=Verdict.PENDING), "in_progress", ""),
        (run(**GATED, verdict=Verdict.PASSED), "completed", "success"),
        (run(**GATED, verdict=Verdict.WITHIN_NOISE), "completed", "success"),
        (run(**GATED, verdict=Verdict.FAILED), "completed", "failure"),
        (run("failed", reason=Reason.EXIT_CODE), "completed", "failure"),
        (run("failed", reason=Reason.TIMEOUT), "completed", "timed_out"),
        (run("stopped", reason=Reason.CANCELED_BY), "completed", "cancelled"),
        (run("skipped", reason=Reason.DEPENDENCY_FAILED), "completed", "failure"),
        (run("skipped", reason=Reason.NOT_NEEDED), "completed", "neutral"),
    ],
)
def test_states_become_githubs(the_run: Run, status: str, conclusion: str) -> None:
    found = check(the_run)
    assert (found.status, found.conclusion) == (status, conclusion)
    assert (found.completed_at is not None) == bool(conclusion)


@pytest.mark.parametrize(
    ("the_run", "buttons"),
    [
        (run(), (TAG_LATEST,)),
        (run(trusted=False), ()),
        (run("failed"), ()),
        (run("running"), ()),
        (run("waiting", needs_approval=True), (APPROVE,)),
    ],
)
def test_buttons(the_run: Run, buttons: tuple[object, ...]) -> None:
    assert check(the_run).buttons == buttons


def test_a_run_with_other_variables_has_a_check_of_another_name() -> None:
    assert check(run()).name == "dstack / train"
    assert check(run(is_clean=False)).name == "dstack / train (manual)"
    assert check(run(is_clean=False, trigger=Trigger.SCHEDULE)).name == "dstack / train (schedule)"


def test_the_summary_has_metrics_against_the_base_and_artifacts() -> None:
    stored = Artifact(run_id=7, job_id=1, attempt_id="a", path="checkpoint", digest="12ab34cd56ef" + "0" * 52,
                      bytes=1_200_000_000, files=3, created_at=NOW)  # fmt: skip
    found = check(run(), base=BASE, artifacts=(stored,))
    assert found.external_id == "run:brave-otter-17" and found.url == "http://d/runs/brave-otter-17"
    assert found.title == "3m 12s · accuracy 0.934 (+0.012)"
    assert found.summary == SUMMARY
    html = MarkdownIt("commonmark").enable("table").render(found.summary)
    assert html.count("<table>") == 3 and "<td>accuracy</td>" in html


SUMMARY = """| | |
|---|---|
| run | [brave-otter-17](http://d/runs/brave-otter-17) |
| state | ✅ succeeded |
| took | 3m 12s |
| variables | `lr=0.01` |

### Metrics

| metric | value | [calm-crow-2](http://d/runs/calm-crow-2) | change |
|---|---|---|---|
| accuracy | 0.934 | 0.922 | +0.012 better |
| loss | 0.2 |  |  |

### Artifacts

| artifact | size | files | digest |
|---|---|---|---|
| `checkpoint` | 1.2 GB | 3 | `sha256:12ab34cd56ef` |

[Log and details](http://d/runs/brave-otter-17)
"""


def test_a_fork_is_told_whose_workflow_files_count() -> None:
    """B39: it may have changed its own, and would wonder why nothing came of that."""
    fork = run("waiting", needs_approval=True, trusted=False, pull_request=7, base_branch="main")
    assert "| workflow files | of `main`: what the fork changed" in check(fork).summary
    assert "workflow files" not in check(run()).summary


def test_a_running_check_shows_how_far_it_is_and_where_to_stop_it() -> None:
    live = run("running", metrics={})
    detail = CheckDetail(
        log="epoch 1\n", metrics={"accuracy": 0.5}, points=[(0, 0.1), (1, 0.5)], base_points=[(0, 0.2), (1, 0.6)]
    )
    found = check(live, detail, runners=("runner-1",))
    assert found.title == "runner-1, since 07:56 UTC"
    assert "### Metrics so far" in found.summary and "| accuracy | 0.5 |" in found.summary
    assert "[Stop it](http://d/runs/brave-otter-17)" in found.summary
    assert "xychart-beta" in found.text and "and its base" in found.text and "epoch 1" in found.text


def test_a_failure_says_why_and_marks_the_lines() -> None:
    log = 'Traceback (most recent call last):\n  File "train.py", line 3, in <module>\nKeyError: 1\n'
    found = check(run("failed", reason=Reason.EXIT_CODE, message="train.py: exit code 1"), CheckDetail(log=log))
    assert found.summary.startswith("**train.py: exit code 1**\n\n|")
    assert [(remark.path, remark.line) for remark in found.annotations] == [("train.py", 3)]
    assert check(run("running"), CheckDetail(log=log)).annotations == ()


def test_files_with_problems_have_a_check_of_their_own() -> None:
    found = check_of_problems(SHA, "config error: .dstack/workflows.yaml:3:5: unknown key `x`", "http://d")
    assert (found.name, found.external_id, found.conclusion) == ("dstack / config", f"config:{SHA}", "failure")
    assert [(remark.path, remark.line) for remark in found.annotations] == [(".dstack/workflows.yaml", 3)]
    assert "unknown key" in found.summary
    problems = "\n".join(f".dstack/workflows.yaml:{n}:5: unknown key" for n in range(1, 5000))
    assert len(check_of_problems(SHA, problems, "http://d").summary.encode()) <= MOST_BYTES


def test_progress_bars_show_their_last_state_and_colours_go() -> None:
    detail = CheckDetail(log="\x1b[32mepoch\x1b[0m\n 10%\r 50%\r100%\nlast\r\n")
    assert "epoch\n100%\nlast" in check(run("failed"), detail).text


def test_long_logs_keep_their_end() -> None:
    found = check(run("failed"), CheckDetail(log="".join(f"line {n} äöü €\n" for n in range(20_000))))
    assert len(found.text.encode()) <= MOST_BYTES
    assert "line 19999 " in found.text and "line 1 " not in found.text


HOSTILE = st.text(st.sampled_from("`~\n<>!-@#|[]()*_ \\/ax\x1b\r\u202e€😀"), max_size=300)


@settings(max_examples=150, deadline=None)
@given(HOSTILE, HOSTILE)
def test_nothing_a_job_writes_breaks_out(log: str, message: str) -> None:
    hostile = run("failed", reason=Reason.EXIT_CODE, message=message, metrics={message or "x": 1.0},
                  variables={"v": message}, headline=message or "x")  # fmt: skip
    found = check(hostile, CheckDetail(log=f"{log}\n<!-- dstack:pull -->\n```\nEND"))
    assert "<!-- dstack" not in found.text and "<!--" not in found.summary
    html = MarkdownIt("commonmark").enable("table").render(f"{found.text}\nAFTER")
    assert html.rstrip().endswith("<p>AFTER</p>")
    assert "<p>END" not in html
    table = MarkdownIt("commonmark").enable("table").render(found.summary)
    assert "brave-otter-17</a></td>" in table and table.rstrip().endswith("Log and details</a></p>")


@given(st.text(alphabet="€😀/\n`<", min_size=1, max_size=50), st.integers(1, 4000))
@settings(max_examples=40, deadline=None)
def test_sizes_are_counted_in_bytes(piece: str, times: int) -> None:
    many = {f"{piece[:20]}{n}": 1.0 for n in range(300)}
    found = check(run("failed", message=piece * 50, metrics=many), CheckDetail(log=piece * times))
    assert len(found.text.encode()) <= MOST_BYTES and len(found.summary.encode()) <= MOST_BYTES
    assert len(found.title) <= 255


def test_one_check_for_all_workflows_of_a_commit() -> None:
    runs = [run(), run("failed", id=8, name="wild-fox-3", workflow="lint", reason=Reason.EXIT_CODE)]
    commit = CommitFacts(SHA, [RunFacts(one) for one in runs])
    found = check_of_commit(commit, {one.name: CheckDetail() for one in runs}, "http://d", NOW)
    assert (found.name, found.conclusion, found.title) == ("dstack", "failure", "1 success, 1 failure")
    assert "## dstack / lint" in found.summary and found.external_id == f"commit:{SHA}"
    going = replace(commit, runs=[*commit.runs, RunFacts(run("running", id=9, name="last-owl-4", workflow="eval"))])
    details = {facts.run.name: CheckDetail() for facts in going.runs}
    assert check_of_commit(going, details, "http://d", NOW).conclusion == ""


def held(number: int, pull: int) -> Run:
    return run("waiting", id=number, name=f"held-{number}", needs_approval=True, trusted=False, pull_request=pull)


@pytest.mark.parametrize(
    ("runs", "buttons"),
    [
        ([run()], ["Tag latest tag-latest:7"]),
        ([run(), run(id=8, name="wild-fox-3", workflow="lint")], []),  # which of them is not said
        ([run(trusted=False)], []),
        ([run("failed", reason=Reason.EXIT_CODE)], []),
        ([held(8, 12)], ["Approve approve:8"]),
        ([held(8, 12), held(9, 13)], ["Approve #12 approve:8", "Approve #13 approve:9"]),
        ([held(n, n) for n in range(8, 13)], [f"Approve #{n} approve:{n}" for n in (8, 9, 10)]),
    ],
)
def test_buttons_of_the_check_of_a_commit_say_what_they_are_about(runs: list[Run], buttons: list[str]) -> None:
    commit = CommitFacts(SHA, [RunFacts(one) for one in runs])
    found = check_of_commit(commit, {one.name: CheckDetail() for one in runs}, "http://d", NOW)
    assert [f"{button.label} {button.identifier}" for button in found.buttons] == buttons
