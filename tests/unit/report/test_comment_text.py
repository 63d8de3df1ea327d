"""The comment of a pull request says how its runs stand, within its budget, whatever jobs reported."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from dstack.server.report.budget import COMMENT_BYTES, cut, cut_start, size
from dstack.server.report.comment import HEADER, MARKER, PullPicture, RunLine, outline, render_comment, summary
from dstack.wire.states import JobState, Reason, Verdict

SHA = "abc1234" + "0" * 33
TRAIN = RunLine(
    name="brave-otter-17",
    workflow="train",
    sha=SHA,
    url="http://ci.example.org/runs/brave-otter-17",
    state=JobState.SUCCEEDED,
    needs=("prepare",),
    seconds=192,
    headline="accuracy",
    value=0.934,
    base="calm-fox-3",
    base_value=0.922,
    better="higher",
    verdict=Verdict.PASSED,
    verdict_why="accuracy 0.934 >= base 0.922 - 0.01",
    report="# Result\n\nAll well.",
    points=tuple((step, step / 10) for step in range(10)),
    base_points=tuple((step, step / 11) for step in range(10)),
)
PREPARE = RunLine("eager-cow-59", "prepare", SHA, "http://ci.example.org/runs/eager-cow-59", JobState.SUCCEEDED)


def picture(*lines: RunLine, **more: object) -> PullPicture:
    return PullPicture(SHA, "main", lines, all_runs_url="http://ci.example.org/runs?repo=acme/vision", **more)  # type: ignore[arg-type]


def test_a_run_against_its_base() -> None:
    text = render_comment(picture(PREPARE, TRAIN))
    row = next(line for line in text.splitlines() if line.startswith("| **train**"))
    assert row == (
        "| **train** ← prepare | ✅ succeeded | 3m 12s | accuracy 0.934 | +0.012 ▲ better (0.922 in calm-fox-3) |"
        " [brave-otter-17](http://ci.example.org/runs/brave-otter-17) |"
    )
    assert text.startswith(f"{MARKER}\n<!-- dstack:runs ")
    assert "- **train**: gate passed: accuracy 0.934 >= base 0.922 - 0.01" in text
    assert "```mermaid\n" in text and "grey line: the base (calm-fox-3)" in text
    assert "<details><summary>Report of train</summary>\n\n# Result\n\nAll well.\n\n</details>" in text


def test_what_is_true_of_several_runs_is_said_once() -> None:
    gate = "- **train**: gate passed: accuracy 0.934 >= base 0.922 - 0.01"
    text = render_comment(
        picture(TRAIN, replace(TRAIN, name="warm-hawk-4"), replace(TRAIN, name="odd-newt-5", note="x"))
    )
    assert [line for line in text.splitlines() if "gate passed" in line] == [gate, gate.replace("**:", "** (x):", 1)]
    assert sum(line.startswith("| **train**") for line in text.splitlines()) == 3


def test_two_runs_of_a_workflow_are_told_apart_wherever_they_stand() -> None:
    tried = replace(TRAIN, name="warm-hawk-4", note="comment lr=9")
    text = render_comment(picture(TRAIN, tried))
    assert text.count("- **train**: gate passed") == 1
    assert "- **train** (comment lr=9): gate passed" in text
    assert "**train** (comment lr=9), accuracy over steps. Blue line: warm-hawk-4" in text
    assert "<summary>Report of train</summary>" in text
    assert "<summary>Report of train (comment lr=9)</summary>" in text


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        ({"better": "lower"}, "▼ worse"),
        ({"better": ""}, "+0.012 (0.922 in calm-fox-3)"),
        ({"value": 0.922}, "±0 same"),
        ({"value": 0.9, "better": "higher"}, "-0.022 ▼ worse"),
        ({"verdict": Verdict.WITHIN_NOISE}, "+0.012 within noise"),
        ({"verdict": Verdict.NO_BASE, "base": "", "base_value": None}, "first result"),
        ({"verdict": Verdict.FAILED}, "❌ gate failed"),
        ({"verdict": Verdict.PENDING}, "⏳ gate pending"),
        ({"same_as": "calm-fox-3"}, "✅ succeeded, same as calm-fox-3"),
        ({"state": JobState.FAILED, "reason": Reason.EXIT_CODE, "message": "exit code 1"}, "❌ failed"),
        ({"state": JobState.FAILED, "reason": Reason.TIMEOUT}, "- **train**: it ran into its timeout"),
        ({"state": JobState.STOPPED, "reason": Reason.CANCELED_BY, "message": "ann"}, "- **train**: stopped by ann"),
        ({"state": JobState.WAITING, "waits_for": "waits for prepare"}, "- **train**: waits for prepare"),
        ({"state": JobState.RUNNING, "seconds": None, "since": "14:02 UTC"}, "| 🔄 running | since 14:02 UTC |"),
        ({"note": "comment lr=3e-4"}, "**train** (comment lr=3e-4)"),
        ({"value": float("nan")}, "accuracy nan |  |"),
        ({"message": "@octocat\n| x |", "state": JobState.FAILED}, "@\u200boctocat \\| x \\|"),
    ],
)
def test_what_a_line_says(change: dict[str, object], shown: str) -> None:
    assert shown in render_comment(picture(replace(TRAIN, **change)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ((), "nothing runs"),
        ((TRAIN,), "passed"),
        ((TRAIN, PREPARE), "all passed"),
        ((replace(TRAIN, state=JobState.FAILED), PREPARE), "train failed"),
        ((replace(TRAIN, state=JobState.RUNNING), PREPARE), "train goes on"),
        ((replace(TRAIN, state=JobState.RUNNING), replace(PREPARE, state=JobState.QUEUED)), "train, prepare go on"),
        ((replace(TRAIN, verdict=Verdict.FAILED), PREPARE), "the gate of train failed"),
        ((replace(TRAIN, verdict=Verdict.PENDING), PREPARE), "done; the gate of train is pending"),
        ((replace(TRAIN, state=JobState.STOPPED), PREPARE), "done"),
        ((TRAIN, replace(TRAIN, state=JobState.FAILED, note="comment lr=9")), "passed"),
        ((replace(TRAIN, state=JobState.FAILED, note="comment lr=9"),), "train failed"),
        ((replace(TRAIN, held=True, state=JobState.WAITING),), "waits for approval"),
    ],
)
def test_the_verdict_in_words(lines: tuple[RunLine, ...], said: str) -> None:
    assert summary(lines) == said


def test_a_held_run_says_how_to_approve_it_and_is_no_command_itself() -> None:
    text = render_comment(picture(replace(TRAIN, held=True, state=JobState.WAITING)))
    assert "comments `/dstack approve abc1234`" in text
    assert not re.search(r"(?m)^\s*/", text)


def test_scripts_find_the_runs_and_nothing_ends_the_marker() -> None:
    text = render_comment(picture(replace(TRAIN, name="a-->b", workflow="x<!--y")))
    found = re.search(r"<!-- dstack:runs (.*?) -->", text)
    assert found is not None
    assert json.loads(found[1])["runs"][0]["name"] == "a-->b"
    assert json.loads(found[1])["runs"][0]["workflow"] == "x<!--y"


def test_earlier_commits_are_folded() -> None:
    text = render_comment(picture(TRAIN, older=(replace(PREPARE, sha="d" * 40),)))
    assert "<details><summary>Earlier commits</summary>\n\n| Commit | Workflow |" in text
    assert "| `ddddddd` | **prepare** |" in text


def test_progress_is_no_change_of_what_is_told_at_once() -> None:
    running = replace(TRAIN, state=JobState.RUNNING)
    more = replace(running, value=0.95, points=((0, 1.0), (1, 2.0), (2, 3.0)))
    assert outline(picture(running)) == outline(picture(more))
    assert outline(picture(running)) == outline(picture(replace(running, state=JobState.SAVING)))
    queued = replace(running, state=JobState.QUEUED)
    assert outline(picture(queued)) == outline(picture(replace(queued, waits_for="waits for a GPU")))
    assert outline(picture(running)) != outline(picture(queued))
    assert outline(picture(TRAIN)) != outline(picture(replace(TRAIN, value=0.95)))


HUGE = "é" * 65_000
LINES = st.builds(
    RunLine,
    name=st.sampled_from(["brave-otter-17", "n" * 100]),
    workflow=st.sampled_from(["train", "w" * 100]),
    sha=st.just(SHA),
    url=st.just("http://ci.example.org/runs/brave-otter-17"),
    state=st.sampled_from(list(JobState)),
    reason=st.sampled_from([None, *Reason]),
    message=st.sampled_from(["", "@" * 4000, "`" * 4000, "|" * 4000]),
    waits_for=st.sampled_from(["", "#1" * 3000]),
    needs=st.sampled_from([(), ("a" * 100,) * 50]),
    headline=st.sampled_from(["", "accuracy", "_" * 200]),
    value=st.one_of(st.none(), st.floats()),
    base=st.sampled_from(["", "calm-fox-3"]),
    base_value=st.one_of(st.none(), st.floats()),
    verdict=st.sampled_from([None, *Verdict]),
    verdict_why=st.sampled_from(["", "<!--" * 500]),
    held=st.booleans(),
    report=st.sampled_from(["", "short", HUGE, "@" * 65_000, "```\n" + "x\n" * 30_000, "![a](b)\n" * 8_000]),
    points=st.lists(st.tuples(st.integers(), st.floats()), max_size=30).map(tuple),
    base_points=st.lists(st.tuples(st.integers(), st.floats()), max_size=30).map(tuple),
)


@settings(max_examples=20, deadline=None)
@given(st.lists(LINES, max_size=100), st.lists(LINES, max_size=40))
def test_whatever_was_reported_the_comment_fits_and_says_the_table(lines: list[RunLine], older: list[RunLine]) -> None:
    text = render_comment(picture(*lines, older=tuple(older)))
    assert size(text) <= COMMENT_BYTES
    assert text.startswith(MARKER) and text.count("<!--") == 2 and HEADER in text
    assert not re.search(r"@[^\s\u200b]|(?m:^\s*/\w)", text)
    tokens = MarkdownIt("commonmark").parse(f"{text}\nAFTER\n")
    assert [token.type for token in tokens[-3:]] == ["paragraph_open", "inline", "paragraph_close"]


def test_reports_are_shortened_before_anything_else() -> None:
    text = render_comment(picture(*(replace(TRAIN, name=f"r-{n}", report="line\n" * 13_000) for n in range(5))))
    assert size(text) <= COMMENT_BYTES and text.count("```mermaid") == 4
    assert "_shortened; see [r-3](http://ci.example.org/runs/brave-otter-17)_" in text


def test_rows_go_last_and_it_is_said() -> None:
    text = render_comment(picture(*(replace(TRAIN, name=f"r-{n}", message="x" * 400) for n in range(400))))
    assert size(text) <= COMMENT_BYTES
    assert "_shortened; see [all runs](http://ci.example.org/runs?repo=acme/vision)_" in text


@pytest.mark.parametrize("most", [0, 1, 2, 3, 10, 1000])
def test_cutting_counts_bytes_and_keeps_characters_whole(most: int) -> None:
    text = "é🙂\n" * 100
    assert size(cut(text, most)) <= most and text.startswith(cut(text, most))
    assert size(cut_start(text, most)) <= most and text.endswith(cut_start(text, most))
    assert cut("short", 10) == "short" == cut_start("short", 10)
