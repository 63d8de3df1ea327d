"""What can be told of a gate before any run: whether the workflow has the metrics that it names, and what it is
compared with on a branch.

A metrics file says only when it is written what is in it, and a custom provider's jobs have metrics of their own: of
those nothing is said.
"""

from __future__ import annotations

from collections.abc import Iterator

from dstack.language.gates import metrics_in, parse_gate
from dstack.language.options import BUILT_IN
from dstack.language.problems import listing, nearest
from dstack.language.workflow import Workflow


def doubts_of(workflow: Workflow) -> Iterator[tuple[str, str]]:
    """Doubts of its gate, each with a suggestion (or none)."""
    if workflow.gate is None:
        return
    yield from _lack_of_metrics(workflow, workflow.gate)
    if any(metric.of_base for metric in metrics_in(parse_gate(workflow.gate))) and _starts_on_branches_alone(workflow):
        yield (
            "a push is compared with the commit before it, so a branch that gets worse step by step passes",
            "start it `on: pull_request` as well, or by pushes to `branches: [main]` alone",
        )


def _starts_on_branches_alone(workflow: Workflow) -> bool:
    """By pushes to branches whose names nobody knows yet, and by no pull request."""
    push, pull_request = workflow.triggers.push, workflow.triggers.pull_request
    if push is None or pull_request is not None or (push.tags and not push.branches):
        return False
    return not push.branches or any("*" in pattern for pattern in push.branches)


def _lack_of_metrics(workflow: Workflow, gate: str) -> Iterator[tuple[str, str]]:
    metrics = workflow.metrics
    own = list(dict.fromkeys(metric.name for metric in metrics_in(parse_gate(gate)) if metric.is_own))
    if not own:
        yield "it names no metric of the run itself, so whatever the run brings makes no difference", ""
    elif workflow.provider.name not in BUILT_IN:
        return
    elif metrics is None or not (metrics.file or metrics.log):
        yield (
            f"the workflow says nowhere how to find {listing(own)}, so no run passes",
            "add `metrics: metrics.json`, a file that its command writes",
        )
    elif not metrics.file:
        for name in own:
            if name not in metrics.log:
                yield f"the workflow has no metric {name}, so no run passes", nearest(name, metrics.log)
