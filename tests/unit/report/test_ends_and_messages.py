"""What the end of a run means, and what people are told of it."""

from __future__ import annotations

import re
from typing import Any

import pytest

from dstack.server.models import Run
from dstack.server.report.ends import end_of, is_failure, is_wanted
from dstack.server.report.issue import issue_of, marker
from dstack.server.report.message import slack_message
from dstack.wire.states import JobState, Reason, Trigger, Verdict

URL = "http://ci.example.org"


def run(state: JobState = JobState.SUCCEEDED, verdict: Verdict | None = None, **more: Any) -> Run:
    given = {
        "name": "brave-otter-17", "group_id": 1, "repo_id": 1, "workflow": "train", "sha": "abc1234" + "0" * 33,
        "branch": "main", "trigger": Trigger.PUSH, "subject": "Faster", "author": "Ann", "created_at": 0.0,
        "started_at": 10.0, "finished_at": 202.0,
    }  # fmt: skip
    return Run(**{**given, **more}, state=state, verdict=verdict)


GOOD, BAD = run(), run(JobState.FAILED)
GATE = run(verdict=Verdict.FAILED)


@pytest.mark.parametrize(
    ("now", "before", "end"),
    [
        (GOOD, None, "succeeded"), (GOOD, GOOD, "succeeded"), (GOOD, BAD, "recovered"), (GOOD, GATE, "recovered"),
        (BAD, None, "failed"), (BAD, GOOD, "failed"), (BAD, BAD, "failed"), (GATE, GOOD, "failed"),
        (run(verdict=Verdict.WITHIN_NOISE), BAD, "recovered"), (run(verdict=Verdict.PENDING), GOOD, "succeeded"),
        (run(JobState.STOPPED), BAD, ""), (run(JobState.SKIPPED), BAD, ""), (run(JobState.RUNNING), BAD, ""),
    ],
)  # fmt: skip
def test_what_an_end_means(now: Run, before: Run | None, end: str) -> None:
    assert end_of(now, before) == end
    assert is_failure(now) == (end == "failed")


@pytest.mark.parametrize(
    ("end", "wanted", "told"),
    [
        ("failed", ["failed"], True), ("failed", ["recovered", "succeeded"], False), ("recovered", ["recovered"], True),
        ("recovered", ["succeeded"], True), ("recovered", ["failed"], False), ("succeeded", ["recovered"], False),
        ("", ["failed", "recovered", "succeeded"], False),
    ],
)  # fmt: skip
def test_who_is_told(end: str, wanted: list[str], told: bool) -> None:
    assert is_wanted(end, wanted) == told


def test_slack_is_told_in_words_that_mention_nobody() -> None:
    failed = run(JobState.FAILED, reason=Reason.EXIT_CODE, message="<!channel> & <@U1>\nnext", subject="Fix <b>")
    message = slack_message(failed, "acme/vision", "failed", None, URL)
    text = message["blocks"][0]["text"]["text"]
    assert "<http://ci.example.org/runs/brave-otter-17|train> failed on acme/vision · main" in text
    assert "&lt;!channel&gt; &amp; &lt;@U1&gt; next" in text and "abc1234 Fix &lt;b&gt; (Ann)" in text
    assert re.findall(r"<[^|>]*", text) == ["<http://ci.example.org/runs/brave-otter-17"]
    assert message["text"] == "❌ train failed on acme/vision · main"
    assert len(text) < 3000


def test_slack_is_told_the_metric_against_the_base() -> None:
    good = run(headline="accuracy", metrics={"accuracy": 0.934}, pull_request=7, verdict=Verdict.PASSED)
    base = run(metrics={"accuracy": 0.922})
    text = slack_message(good, "acme/vision", "recovered", base, URL)["blocks"][0]["text"]["text"]
    assert "recovered on acme/vision #7" in text
    assert "3m 12s · accuracy 0.934 (+0.012) · gate passed" in text


def test_a_long_message_stays_within_what_slack_takes() -> None:
    failed = run(JobState.FAILED, message="&" * 9000, subject="<" * 9000, branch="b" * 900)
    text = slack_message(failed, "acme/vision", "failed", None, URL)["blocks"][0]["text"]["text"]
    assert len(text) < 3000 and not re.search(r"&(?!amp;|lt;|gt;)", text)


def test_an_issue_says_since_when_and_why() -> None:
    ends = [
        run(JobState.FAILED, name="r-4", reason=Reason.EXIT_CODE, message="exit code 1 @octocat"),
        run(JobState.FAILED, name="r-3", sha="def5678" + "0" * 33),
        run(name="r-2"),
        run(JobState.FAILED, name="r-1"),
    ]
    log = "line\n```\n<!-- dstack:issue:other -->\n/dstack run train\n\x1b[31mTraceback\x1b[0m"
    issue = issue_of("train", "main", ends, URL, log)
    assert issue.is_open and issue.title == "dstack: train fails on main"
    assert issue.body.startswith(marker("train")) and issue.body.count("<!--") == 1
    assert "since [r-3](http://ci.example.org/runs/r-3) at `def5678` (2 runs)" in issue.body
    assert "it last succeeded in [r-2]" in issue.body
    assert "Reason: a command ended with an error: exit code 1 @\u200boctocat" in issue.body
    assert "````\nline\n```\n" in issue.body and "\nTraceback\n````" in issue.body
    assert not re.search(r"(?m)^\s*/\w", issue.body)


def test_a_failed_gate_is_a_reason_too() -> None:
    issue = issue_of("train", "main", [run(verdict=Verdict.FAILED, verdict_why="auc 0.8 < 0.9")], URL, "")
    assert issue.is_open and "Gate failed: auc 0.8 \\< 0.9" in issue.body and "log" not in issue.body


def test_an_issue_is_closed_with_a_note_on_recovery() -> None:
    issue = issue_of("train", "main", [run(name="r-2"), run(JobState.FAILED, name="r-1")], URL, "")
    assert not issue.is_open
    assert "works again on `main`: [r-2]" in issue.body and "the last that failed was [r-1]" in issue.body


def test_a_long_log_is_cut_from_its_start() -> None:
    issue = issue_of("train", "main", [BAD], URL, "x" * 50_000 + "\nthe end")
    assert "the end" in issue.body and len(issue.body) < 10_000
