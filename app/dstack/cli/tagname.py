"""Reads tags as people write them: `WORKFLOW:NAME`, or `OWNER/REPO/WORKFLOW:NAME` across repos; pure."""

from __future__ import annotations

from typing import NamedTuple

from dstack.errors import Usage


class TagName(NamedTuple):
    """`repo` and `workflow` are empty where they are not written."""

    repo: str
    workflow: str
    name: str


def parse_tag(text: str) -> TagName:
    """`latest`, `prepare:latest` or `owner/repo/prepare:latest`. Raises Usage."""
    path, colon, name = text.rpartition(":")
    parts = path.split("/") if path else []
    if not name or (colon and not path) or len(parts) not in (0, 1, 3) or not all(parts) or "/" in name:
        raise Usage(
            f"{text!r} is not a tag", "Write WORKFLOW:NAME, such as prepare:latest, or OWNER/REPO/WORKFLOW:NAME."
        )
    return TagName("/".join(parts[:2]) if len(parts) == 3 else "", parts[-1] if parts else "", name)
