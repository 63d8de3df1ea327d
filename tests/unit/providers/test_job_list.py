"""A custom provider's output is checked as if a stranger had sent it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dstack.errors import ConfigProblems
from dstack.providers import read_jobs
from dstack.wire.job import Command, Job

GOOD: dict[str, Any] = {"commands": [{"argv": ["ls"]}]}


def refused(text: str, **given: Any) -> str:
    with pytest.raises(ConfigProblems) as raised:
        read_jobs(text, **given)
    return raised.value.message


def test_a_list_of_jobs_is_read() -> None:
    jobs = [{"name": f"j{n}", "commands": [{"shell": "echo ${{ not ours }}"}, {"argv": ["x", ""]}]} for n in range(256)]
    read = read_jobs(json.dumps(jobs))
    assert len(read) == 256
    assert read[3] == Job((Command(shell="echo ${{ not ours }}"), Command(argv=("x", ""))), name="j3")


def test_jobs_without_names_are_fine_and_twins_are_not() -> None:
    assert len(read_jobs(json.dumps([GOOD, GOOD]))) == 2
    assert "have one name: x" in refused(json.dumps([{**GOOD, "name": "x"}] * 2))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[" * 50 + "]" * 50, "nested too deep"),
        ("[NaN]", "not a number"),
        ("[" + "9" * 5000 + "]", "not JSON"),
        ("null", "no list of jobs"),
        ("{}", "no list of jobs"),
        ("[]", "no list of jobs"),
        ("[null]", "expected a job"),
        ("[[]]", "expected a job"),
        ('[{"commands": []}]', "no commands"),
        (json.dumps([GOOD] * 257), "made 257 jobs; expected at most 256"),
        (" " * 4_000_001, "too large"),
    ],
)
def test_what_is_no_list_of_jobs_is_refused(text: str, words: str) -> None:
    assert words in refused(text)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"comands": []}, 'did you mean "commands"?'),
        ({"commands": "ls"}, "found \"ls\""),
        ({"commands": [{"shell": "a", "argv": ["b"]}]}, "either shell or argv"),
        ({"commands": [{}]}, "either shell or argv"),
        ({"commands": [{"shell": "a\0b"}]}, "a shell text"),
        ({"commands": [{"argv": ["a\0b"]}]}, "argv[0]"),
        ({"commands": [{"argv": ["${{ lr }}"]}]}, 'no variable "lr"; expected one of attempt'),
        ({"commands": [{"argv": ["${{ branch }}"]}]}, 'no variable "branch"'),
        ({"env": {"PATH": "x"}}, '"PATH" is reserved'),
        ({"env": {"DSTACK_TOKEN": "x"}}, "is reserved"),
        ({"env": {"A=B": "x"}}, "a name of letters"),
        ({"env": {"A": ["x"]}}, "found a list"),
        ({"artifacts": [{"path": "/etc"}]}, "inside the repository"),
        ({"artifacts": [{"path": "a/../../b"}]}, "inside the repository"),
        ({"artifacts": ["a"]}, "expected an artifact"),
        ({"working_dir": ".."}, "inside the repository"),
        ({"report": "/x"}, "inside the repository"),
        ({"resources": {"gpu": {"count": -1}}}, "from 0 to 1024"),
        ({"resources": {"gpu": 2}}, "expected GPUs"),
        ({"resources": {"memory": "16GB"}}, "a whole number"),
        ({"resources": {"cpu": 1.5}}, "a whole number"),
        ({"resources": {"memory": 10**30}}, "a whole number"),
        ({"timeout_s": 0}, "a whole number from 1"),
        ({"timeout_s": True}, "a whole number from 1"),
        ({"retry": {"limit": 99}}, "from 0 to 10"),
        ({"retry": {"on": ["canceled_by"]}}, "a reason"),
        ({"secrets": ["GIT_X"]}, "is reserved"),
        ({"metrics": {"log": {"a": "("}}}, "no regular expression"),
        ({"python": {"version": "2.7"}}, "a Python version"),
        ({"python": {"packages": ["a\nb"]}}, "one line"),
        ({"expects_jobs": True}, "cannot be providers themselves"),
        ({"name": "../x"}, "a name of letters"),
        ({"cache": ["/var"]}, "a folder"),
    ],
)  # fmt: skip
def test_fields_that_are_not_allowed_are_named(change: dict[str, Any], words: str) -> None:
    message = refused(json.dumps([GOOD, {**GOOD, "name": "b", **change}]))
    assert words in message and "jobs[1]" in message, message


def test_all_problems_are_told_at_once() -> None:
    message = refused(json.dumps([{**GOOD, "timeout_s": 0, "report": "/x"}, {"nmae": "x"}]))
    assert message.count("\n") >= 3


def test_a_job_gets_no_secret_that_the_workflow_does_not_name() -> None:
    text = json.dumps([{**GOOD, "secrets": ["A", "B"]}])
    assert read_jobs(text, allowed_secrets=["A", "B"])[0].secrets == ("A", "B")
    assert "does not name these secrets: B" in refused(text, allowed_secrets=["A"])
    assert read_jobs(text)[0].secrets == ("A", "B")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["commands", "argv", "shell", "env", "resources", "gpu", "count", "name", "retry", "on"]),
        inner, max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(JSON)
def test_any_json_is_read_or_refused(data: object) -> None:
    try:
        jobs = read_jobs(json.dumps([data]))
    except ConfigProblems as error:
        assert error.message
    else:
        assert all(job.commands for job in jobs)
