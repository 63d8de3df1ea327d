"""The reply to a comment with commands: what it tells, and that it does nothing."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from dstack.errors import ConfigProblems, GitFailed, Usage
from dstack.language import read_project
from dstack.server.decide.command_lines import find_lines
from dstack.server.decide.commands import USAGE
from dstack.server.models import Run
from dstack.server.report.replies import (
    Answer,
    given_up,
    help_text,
    not_allowed,
    reaction_of,
    refused,
    render_reply,
    reply_marker,
    too_many,
)
from dstack.wire.states import JobState, Reason, Trigger

DONE = Answer("/train", True, runs=("brave-otter-17",), is_told=False)
WRONG = refused("/dstack rnu", Usage("there is no command 'rnu'", "Did you mean run?"))

BROKEN = GitFailed("git fetch failed: cannot open /srv/data/repos/1.git", "mend /srv/data")


def url(name: str) -> str:
    return f"https://dstack.example/runs/{name}"


def run(state: JobState = JobState.QUEUED, **more: object) -> dict[str, Run]:
    made = Run(
        name="brave-otter-17", group_id=1, repo_id=1, workflow="train", sha="abc1234def", trigger=Trigger.COMMENT,
        state=state, created_at=0, **more,
    )  # fmt: skip
    return {made.name: made}


@pytest.mark.parametrize(
    ("answers", "reaction"),
    [
        ([DONE], "rocket"),
        ([DONE, WRONG], "confused"),
        ([DONE, not_allowed("/train")], "-1"),
        ([WRONG, not_allowed("/train")], "-1"),
        ([DONE, too_many(5, 3)], "confused"),
    ],
)
def test_one_reaction_for_all_commands(answers: list[Answer], reaction: str) -> None:
    assert reaction_of(answers) == reaction


def test_what_a_reaction_tells_needs_no_reply() -> None:
    assert render_reply(7, [DONE, not_allowed("/train")], run(), url) == ""


@pytest.mark.parametrize(
    ("runs", "said"),
    [
        (run(needs_approval=True), "waits for `/dstack approve abc1234`"),
        (run(JobState.FAILED, reason=Reason.NO_SUCH_TAG, message="there is no tag a:b"), "there is no tag a:b"),
        (run(JobState.FAILED, reason=Reason.CONFIG, message="x"), "❌ failed"),
    ],
)
def test_a_run_that_does_not_go_on_is_told_of(runs: dict[str, Run], said: str) -> None:
    text = render_reply(7, [DONE], runs, url)
    assert said in text and "[brave-otter-17](https://dstack.example/runs/brave-otter-17)" in text


@pytest.mark.parametrize("state", [JobState.PREPARING, JobState.RUNNING, JobState.SAVING])
def test_a_reply_that_is_there_follows_its_runs_in_few_words(state: JobState) -> None:
    assert "under way" in render_reply(7, [DONE], run(state), url, is_there=True)


def test_who_may_not_is_never_spoken_of() -> None:
    assert "/prod" not in render_reply(7, [WRONG, not_allowed("/prod")], {}, url, is_there=True)


@pytest.mark.parametrize("answer", [refused("/train", BROKEN), given_up(BROKEN), given_up(OSError("/srv/data"))])
def test_a_fault_of_the_server_names_none_of_its_folders(answer: Answer) -> None:
    text = render_reply(7, [answer], {}, url)
    assert "/srv" not in text and "its log says why" in text.lower()


def test_problems_of_files_keep_their_lines() -> None:
    text = render_reply(7, [refused("/train", ConfigProblems("a.yaml:1:2: x\na.yaml:3:4: ```y", "Mend it."))], {}, url)
    assert "a.yaml:1:2: x\na.yaml:3:4: ```y\n````" in text and text.endswith("Mend it.")


def test_help_lists_commands_that_can_be_copied() -> None:
    files = {
        ".dstack/workflows.yaml": b"workflows:\n"
        b"  - {name: train, provider: bash, commands: ls, help: 'Train | it @all', on: {comment: /train}}\n"
        b"  - {name: eval, provider: bash, commands: ls}\n",
        ".dstack/variables.yaml": b"variables: {train: {lr: 0.01, batch_size: '', x: '`|<b>'}}\n",
    }
    project = read_project(files)
    assert not project.problems
    text = help_text(list(project.workflows.values()), "abc1234def")
    assert "| train | `/train` | `--lr 0.01, --batch-size EMPTY, --x " in text
    assert "| eval | `/dstack run eval` | none |" in text
    assert "@all" not in text and "<b>" not in text
    assert all(f"- `/dstack {usage}`" in text for usage in USAGE.values())
    assert {line.count("|") - line.count("\\|") for line in text.splitlines() if line.startswith("|")} == {5}


@settings(max_examples=500, deadline=None)
@given(
    st.lists(st.text(st.sampled_from("/dstack run @all #1 fixes <!-- -->`|~>\n\r\u2028'\\") | st.characters())),
    st.text(max_size=200),
)
@example(["@all\nfixes #1"], "/train")  # several lines are quoted in a fence, where nothing is cut that harms nobody
def test_whatever_is_said_the_reply_does_nothing(texts: list[str], line: str) -> None:
    answers = [refused(line, Usage(text, text)) for text in texts]
    text = render_reply(7, answers, {}, url)
    assert find_lines(text) == ()
    read = _outside_fences(text)
    assert not re.search(r"@\w", read)
    assert not re.search(r"(?i)\b(close[sd]?|fix(e[sd])?|resolve[sd]?)\s+#\d", read)
    assert text.count("<!--") == (1 if answers else 0) == text.count(reply_marker(7))


def _outside_fences(text: str) -> str:
    """What GitHub looks for mentions and closing words in: blocks of code are shown as they are."""
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    return "\n".join(token.content for token in tokens if token.type != "fence")


def test_a_reply_stays_within_what_github_stores() -> None:
    many = [refused("/train", ConfigProblems("\n".join(["`@é`" * 100] * 200)))] * 5
    text = render_reply(7, many, {}, url)
    assert len(text.encode()) <= 60_000 and text.startswith(reply_marker(7)) and text.endswith("_shortened_")
