"""What can be told of `on:` before any event: a trigger that starts nothing, or leaves later commits green unseen."""

from __future__ import annotations

from collections.abc import Iterator

from dstack.language.nodes import Table
from dstack.language.workflow import PULL_REQUEST_TYPES, Triggers, Workflow


def doubts_of_triggers(workflow: Workflow) -> Iterator[tuple[str, str, str]]:
    """(key, doubt, suggestion) of its triggers; the key stands below the workflow's name. `on: []` is left alone: it
    can hardly be meant otherwise."""
    on = next((value for key, value in workflow.node.pairs if key.text == "on"), None) if workflow.node else None
    if isinstance(on, Table) and workflow.triggers == Triggers():
        yield "on", "it starts nothing by itself", "write `on: manual` if that is meant"
    pull, push = workflow.triggers.pull_request, workflow.triggers.push
    if pull is None:
        return
    if not pull.types:
        yield (
            "on.pull_request.types",
            "there are none: " + ("nothing" if pull.drafts else "only the end of a draft") + " starts it",
            f"leave it out for {', '.join(PULL_REQUEST_TYPES)}",
        )
    elif "synchronize" not in pull.types and (push is None or push.branches or push.branches_ignore):
        # Who requires the status merges what is green, and what is green was never run.
        yield (
            "on.pull_request.types",
            'later commits of a pull request start nothing, and their status is the green "not needed"',
            "add synchronize if its status is required",
        )
