"""When two runs do the same work: the same jobs of the same workflow, from the same tree, with the same inputs.

What the workflow reads is the tree of its `paths`, by default the whole tree. A run's own name and what started it do
not count; its commit and branch count only where the workflow's entry writes them out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence

from dstack.wire.codec import to_dict
from dstack.wire.job import Job


def work_key(workflow: str, jobs: Sequence[Job], tree: str, provider: str = "") -> str:
    """Of a run without its inputs: `jobs` are those for a run without name and trigger, `tree` the digest of what it
    reads, `provider` the commit a provider of another repo is pinned to. Empty when the tree is not known."""
    if not tree:
        return ""
    return _digest([workflow, tree, provider, [to_dict(job) for job in jobs]])


def with_inputs(key: str, inputs: Iterable[str]) -> str:
    """The key of the whole work. An input is the artifacts' digests of a run that a tag names, or the key of a run that
    comes first; where one of those has no key, nor has this."""
    parts = list(inputs)
    return _digest([key, parts]) if key and all(parts) else ""


def input_of_tag(label: str, digests: Iterable[tuple[str, str]]) -> str:
    """`digests` are (path, digest) of the artifacts."""
    return _digest([label, sorted(digests)])


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=True).encode()).hexdigest()
