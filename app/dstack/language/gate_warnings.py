"""What can be told of a gate before any run: whether the workflow has the metrics that it names.

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
    metrics = workflow.metrics
    own = list(dict.fromkeys(metric.name for metric in metrics_in(parse_gate(workflow.gate)) if metric.is_own))
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
