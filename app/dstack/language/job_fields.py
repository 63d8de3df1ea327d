"""What a job takes and leaves: the keys under resources, artifacts, metrics and retry."""

from __future__ import annotations

import re
from typing import Any

from dstack.language import words
from dstack.language.kinds import NAME, PATH, SIZE, choice, fixed, whole
from dstack.language.quantities import Wrong, integer, parse_size
from dstack.language.records import Field, Record
from dstack.language.shapes import ByKind, ListOf, MapOf, Word
from dstack.wire.job import ArtifactSpec, MetricsSpec, Retry, SaveWhen
from dstack.wire.states import Reason

MAX_GPUS = 1024
MAX_CPUS = 4096
MAX_RETRIES = 10
RETRY_REASONS = (
    Reason.RUNNER_LOST, Reason.PREEMPTED, Reason.CHECKOUT, Reason.ENVIRONMENT, Reason.DISK_FULL, Reason.INPUTS,
    Reason.ARTIFACTS, Reason.EXIT_CODE, Reason.OUT_OF_MEMORY, Reason.TIMEOUT,
)  # fmt: skip


def _split_gpu(text: str) -> dict[str, Any]:
    """`1`, `A100`, `A100:2`, `A100:40GB` or `A100:40GB:2`."""
    if text.isdigit():
        return {"count": integer(0, MAX_GPUS)(text)}
    name, *rest = text.split(":")
    is_model = bool(rest) or any(map(str.isdigit, name))  # "A100" is one; "two" is a number in words
    if not re.match(r"[A-Za-z][A-Za-z0-9 ._-]{0,99}\Z", name) or len(rest) > 2 or not is_model:
        raise Wrong()
    gpu: dict[str, Any] = {"name": name, "count": 1}
    for part in rest:
        key = "count" if part.isdigit() else "memory"
        gpu[key] = integer(0, MAX_GPUS)(part) if part.isdigit() else parse_size(part)
    return gpu


GPU = ByKind(
    scalar=Word(
        f"a number of GPUs from 0 to {MAX_GPUS}, or A100:40GB:2",
        _split_gpu,
        {"type": ["integer", "string"], "minimum": 0, "maximum": MAX_GPUS},
    ),
    table=Record(
        (
            Field("name", Word("the name of a GPU, such as A100"), "Name of the GPU; its beginning is enough."),
            Field("memory", SIZE, "Memory that each GPU has at least."),
            Field("count", whole(0, MAX_GPUS), "How many; 1 where it is left out."),
        ),
        build=lambda values: {"count": 1, **values},
        what="the GPUs",
    ),
)

RESOURCES = Record(
    (
        Field("gpu", GPU, "Whole GPUs: a number, `A100:40GB:2`, or a mapping."),
        Field("cpu", whole(1, MAX_CPUS), "CPU cores that must be free."),
        Field("memory", SIZE, "Memory that must be free (GB and GiB are both 2^30 bytes)."),
        Field("labels", ListOf(NAME), "Labels that the runner must carry."),
    ),
    what="what the machine must have",
)

ARTIFACT = ByKind(
    scalar=Word("a relative path or pattern inside the repository", lambda text: ArtifactSpec(words.parse_path(text))),
    table=Record(
        (
            Field("path", PATH, "Folder, file or pattern, relative to the working directory.", required=True),
            Field(
                "when",
                Word("success or always", words.member_of(SaveWhen, list(SaveWhen)), {"enum": ["success", "always"]},
                     template=False),
                "`success`, or `always`: also after failure, stop and timeout.",
            ),
        ),
        build=lambda values: ArtifactSpec(values["path"], values.get("when", SaveWhen.SUCCESS)),
        what="an artifact",
    ),
)  # fmt: skip


def parse_expression(text: str) -> str:
    """A regular expression with one group. Raises Wrong."""
    try:
        groups = re.compile(text).groups
    except (re.error, OverflowError, RecursionError) as error:
        raise Wrong(f"it is no regular expression: {error}") from None
    if groups != 1 or len(text) > 500:
        raise Wrong("put the number in brackets: 'val loss ([\\d.]+)'")
    return text


METRICS = ByKind(
    scalar=Word("a metrics file", lambda text: MetricsSpec(file=words.parse_path(text))),
    table=Record(
        (
            Field("file", PATH, "JSON file (nested), or CSV whose last row counts."),
            Field(
                "log",
                MapOf(fixed("the name of a metric"), fixed("a regular expression with one group", parse_expression)),
                "Metrics read from the log: name to a regular expression; the last match counts.",
            ),
            Field("headline", fixed("the name of a metric"), "The metric shown first."),
            Field("better", choice("higher", "lower"), "Which way the headline metric improves."),
        ),
        build=lambda values: MetricsSpec(**values),
        what="where metrics come from",
    ),
)

RETRY = ByKind(
    scalar=Word(
        f"how often, from 0 to {MAX_RETRIES}",
        lambda text: Retry(limit=integer(0, MAX_RETRIES)(text)),
        {"type": "integer", "minimum": 0, "maximum": MAX_RETRIES},
        template=False,
    ),
    table=Record(
        (
            Field(
                "on",
                ListOf(
                    Word("a reason (" + ", ".join(RETRY_REASONS) + ")", words.member_of(Reason, RETRY_REASONS),
                         {"enum": [str(reason) for reason in RETRY_REASONS]}, template=False)
                ),
                "Reasons to try again for.",
            ),
            Field("limit", Word(f"a whole number from 0 to {MAX_RETRIES}", integer(0, MAX_RETRIES),
                  {"type": "integer", "minimum": 0, "maximum": MAX_RETRIES}, template=False), "How often at most."),
        ),
        build=lambda values: Retry(**values),
        what="when to try again",
    ),
)  # fmt: skip
