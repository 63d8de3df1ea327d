"""Whatever stands in the files, reading them ends in a Project, with a place for every problem."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dstack.errors import ConfigProblems
from dstack.language import FILES, Context, Event, close_over_needs, read_project, resolve, select
from dstack.language.fields import COMMON
from dstack.language.options import BUILT_IN
from dstack.providers import jobs_for
from dstack.wire.states import Trigger

EXAMPLES = int(os.environ.get("DSTACK_FUZZ_EXAMPLES", "150"))
KEYS = [word for f in (*COMMON, *BUILT_IN["python"], *BUILT_IN["bash"]) for word in f.all_spellings()]
SCALARS = st.sampled_from(
    ["a", "b", "1", "-1", "1e400", "null", "~", "true", "on", "''", "'${{ lr }}'", "'${{'", "2d", "16GB", "A100:2",
     "a:latest", "'a:latest?'", "o/r/a:v1", "../x", "/x", "'*'", "'[a'", "push", "python", "bash", "'0 3 * * 1'", "é"]
)  # fmt: skip
INNER_KEYS = [*KEYS, "gpu", "memory", "count", "push", "branches", "cron", "from"]


def _flow(pairs: dict[str, str]) -> str:
    return "{" + ", ".join(f"{key}: {value}" for key, value in pairs.items()) + "}"


VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: "[" + ", ".join(items) + "]")
        | st.dictionaries(st.sampled_from(INNER_KEYS), inner, max_size=3).map(_flow)
    ),
    max_leaves=6,
)
ENTRY = st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=5)


def read_and_use(workflows: bytes, variables: bytes = b"variables: {global: {lr: 1}}") -> None:
    project = read_project({FILES[0]: workflows, FILES[1]: variables})
    for problem in (*project.problems, *project.warnings):
        assert problem.file in FILES and problem.message and str(problem).isprintable(), str(problem)
    if project.problems:
        return
    names = [selection.workflow for selection in select(project, Event(Trigger.PUSH, branch="main"))]
    assert sorted(close_over_needs(project, names)) == sorted(names)
    for workflow in project.workflows.values():
        resolved = resolve(workflow, {}, Context("n", "o/r", "s", "main", "push"))
        if not resolved.provider.is_custom:
            jobs_for(resolved)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(entries=st.lists(ENTRY, min_size=1, max_size=2), names=st.permutations(["a", "b"]))
def test_entries_of_known_keys_and_odd_values(entries: list[dict[str, str]], names: list[str]) -> None:
    lines = ["workflows:"]
    for entry, name in zip(entries, names, strict=False):
        whole = {"name": name, "provider": "bash", "commands": "ls", **entry}
        lines += [
            ("  - " if number == 0 else "    ") + f"{key}: {value}" for number, (key, value) in enumerate(whole.items())
        ]
    read_and_use("\n".join(lines).encode())


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.binary(max_size=80))
def test_any_bytes(data: bytes) -> None:
    read_and_use(data)
    read_and_use(b"workflows: [{name: a, provider: bash, commands: ls}]", data)


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.text(st.sampled_from("ab:-[]{}\n #'\"*&!|>%@`,?~<\t"), max_size=60))
def test_any_marks_of_yaml(text: str) -> None:
    read_and_use(text.encode())


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.text(max_size=30), st.text(max_size=30))
def test_any_override(name: str, value: str) -> None:
    files = {
        FILES[0]: b"workflows: [{name: a, provider: bash, commands: 'x ${{ lr }}'}]",
        FILES[1]: b"variables: {a: {lr: 1}}",
    }
    workflow = read_project(files).workflows["a"]
    for given_name in (name, "lr"):
        try:
            resolved = resolve(workflow, {given_name: value}, Context("n", "o/r", "s", "main", "push"))
        except ConfigProblems as error:
            assert error.message
        else:
            assert resolved.variables == {"lr": value}
