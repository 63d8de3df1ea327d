"""Which commit speaks for one that a workflow was not started on, as tables."""

from __future__ import annotations

import pytest

from dstack.language import FILES, read_project
from dstack.language.project import Project
from dstack.server.decide.carry_over import reads_the_same, speaker_of

LINE = ("d", "c", "b", "a")


@pytest.mark.parametrize(
    ("line", "ran", "carried", "speaker"),
    [
        (LINE, {"d"}, {}, "d"),
        (LINE, {"b", "a"}, {}, "b"),  # the nearest counts, not an older one that was better
        (LINE, {"a"}, {"c": "a", "d": "a"}, "a"),  # several such pushes in a row
        (LINE, {"a"}, {"d": "x"}, "x"),  # a forced push: the one that speaks is on no line any more
        (LINE, {"d", "a"}, {"d": "a"}, "d"),  # a run that came after all
        (LINE, {"a"}, {"c": "x", "b": "y"}, "x"),
        (LINE, set(), {}, "d"),  # none is known: that of what was pushed to may yet come
        ((), {"a"}, {}, ""),  # nothing is known of what was there
    ],
)
def test_the_nearest_that_is_known_speaks(
    line: tuple[str, ...], ran: set[str], carried: dict[str, str], speaker: str
) -> None:
    assert speaker_of(line, ran, carried) == speaker


def project(entry: str = "", variables: str = "", providers: str = "") -> Project:
    lines = ["workflows:", "  - name: train", "    paths: [src/**]", *(f"    {line}" for line in entry.splitlines())]
    if "provider:" not in entry:
        lines += ["    provider: bash", "    commands: [make]"]
    texts = {".dstack/workflows.yaml": "\n".join(lines), ".dstack/variables.yaml": variables}
    texts |= {".dstack/providers.yaml": providers} if providers else {}
    found = read_project({path: text.encode() for path, text in texts.items() if text})
    assert set(texts) <= set(FILES) and not found.problems, found.problems
    return found


OWN = "provider: mine"
MINE = "providers:\n  - {name: mine, commands: [./jobs %s]}\n"


@pytest.mark.parametrize(
    ("then", "now", "changed", "same"),
    [
        (project(), project(), ("README.md",), True),
        (project(), project(), (), True),
        (project(), project(), ("README.md", "src/a.py"), False),  # by a commit that was skipped, say
        (project(), project(), None, False),  # it is not known
        (project("env: {A: b}"), project("env: {A: c}"), (".dstack/workflows.yaml",), False),
        (project("gate: auc > 1"), project("gate: auc > 2"), (".dstack/workflows.yaml",), False),
        (project("help: a"), project("help: b\ntag: latest\non: {push: {branches: [x]}}"), ("README.md",), True),
        (project(), project("on: pull_request"), ("README.md",), False),
        (project(), project("on: {push: {branches: [main], paths-ignore: [src/*.md]}}"), ("src/a.md",), True),
        (project(), project("on: {push: {tags: [v1]}}"), ("README.md",), True),  # the push itself was one to look at
        (project(variables="variables: {train: {lr: 1}}"), project(variables="variables: {train: {lr: 2}}"),
         (".dstack/variables.yaml",), False),
        (project(OWN, providers=MINE % "a"), project(OWN, providers=MINE % "a"), ("README.md",), True),
        (project(OWN, providers=MINE % "a"), project(OWN, providers=MINE % "b"), (".dstack/providers.yaml",), False),
        (Project(), project(), ("README.md",), False),
        (project(), Project(), ("README.md",), False),
    ],
)  # fmt: skip
def test_it_speaks_while_the_workflow_reads_the_same(
    then: Project, now: Project, changed: tuple[str, ...] | None, same: bool
) -> None:
    assert reads_the_same("train", then, now, changed) is same
