"""Workflow and job list as JSON between the server and a custom provider; the standard library alone.

What comes back is checked on the server by `job_list.py`; here is only what both ends must spell alike.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from dstack.providers.base import ResolvedWorkflow
from dstack.wire.job import ArtifactSpec, Gpu, Job, MetricsSpec, Resources, Retry, SaveWhen
from dstack.wire.states import Reason

WORKFLOW_ENV = "DSTACK_WORKFLOW_JSON"  # the resolved workflow (DSTACK_WORKFLOW is every job's: the name)
OUTPUT_ENV = "DSTACK_OUTPUT"  # the file that takes the job list


def dump_workflow(workflow: ResolvedWorkflow) -> str:
    return json.dumps(asdict(workflow), ensure_ascii=False)


def load_workflow(text: str) -> ResolvedWorkflow:
    """Raises ValueError when it is not the JSON of a workflow."""
    try:
        return _workflow(json.loads(text))
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"this is not a workflow: {error!r}") from None


def dump_jobs(jobs: Iterable[Job]) -> str:
    return json.dumps([asdict(job) for job in jobs], ensure_ascii=False)


def _workflow(data: dict[str, Any]) -> ResolvedWorkflow:
    resources, retry, metrics = data["resources"], data["retry"], data["metrics"]
    gpu = Gpu(**resources["gpu"])
    return ResolvedWorkflow(
        **{
            **data,
            "artifacts": tuple(ArtifactSpec(item["path"], SaveWhen(item["when"])) for item in data["artifacts"]),
            "resources": Resources(gpu, resources["cpu"], resources["memory"], tuple(resources["labels"])),
            "secrets": tuple(data["secrets"]),
            "cache": tuple(data["cache"]),
            "metrics": MetricsSpec(**metrics) if metrics else None,
            "retry": Retry(tuple(Reason(reason) for reason in retry["on"]), retry["limit"]),
        }
    )
