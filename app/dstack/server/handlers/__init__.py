"""One small handler per kind of delivery. They run in no fixed order, one at a time per delivery, and may run twice."""

from dstack.server.handlers import (
    approved,
    check_events,
    comment,
    event,
    forge_push,
    found,
    github,
    installation,
    manual,
    merge_group,
    pull_request,
    push,
    repository,
    schedule,
    tag_moved,
)
from dstack.server.handlers.registry import HANDLERS

__all__ = [
    "HANDLERS",
    "approved",
    "check_events",
    "comment",
    "event",
    "forge_push",
    "found",
    "github",
    "installation",
    "manual",
    "merge_group",
    "pull_request",
    "push",
    "repository",
    "schedule",
    "tag_moved",
]
