"""When a run moves its automatic tag: only a commit of the default branch, never a tree with uncommitted changes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dstack.language import read_project
from dstack.server.decide.plan import Occasion, plan_runs
from dstack.wire.states import Trigger

PROJECT = read_project(
    {
        ".dstack/workflows.yaml": (
            b"workflows:\n  - {name: prepare, provider: bash, commands: [make], artifacts: [data], tag: latest}\n"
        )
    }
)
ON_MAIN = Occasion("o/n", "a" * 40, "main", "main", Trigger.PUSH)


@pytest.mark.parametrize(
    ("occasion", "tag"),
    [
        (ON_MAIN, "latest"),
        (replace(ON_MAIN, trigger=Trigger.MANUAL), "latest"),
        (replace(ON_MAIN, trigger=Trigger.MANUAL, is_working_tree=True), None),
        (replace(ON_MAIN, branch="feature"), None),
        (replace(ON_MAIN, branch=""), None),
    ],
)
def test_automatic_tag(occasion: Occasion, tag: str | None) -> None:
    (plan,) = plan_runs(PROJECT, ["prepare"], {}, occasion, lambda: "brave-otter-1")
    assert plan.auto_tag == tag
