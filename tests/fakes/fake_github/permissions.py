"""GitHub's permissions and the events they open: what an App has by default here, and what covers what. Pure."""

from __future__ import annotations

from collections.abc import Mapping

PERMISSIONS: dict[str, str] = {
    "checks": "write",
    "contents": "read",
    "issues": "write",
    "merge_queues": "read",
    "metadata": "read",
    "pull_requests": "write",
    "statuses": "write",
}
# The permission an App needs to subscribe to an event, and an installation to be told of it. `installation`,
# `installation_repositories` and `ping` reach every App and cannot be subscribed to.
EVENT_NEEDS: dict[str, str] = {
    "check_run": "checks:read",
    "check_suite": "checks:read",
    "create": "contents:read",
    "delete": "contents:read",
    "fork": "contents:read",
    "issue_comment": "issues:read",
    "issues": "issues:read",
    "label": "metadata:read",
    "member": "metadata:read",
    "merge_group": "merge_queues:read",
    "public": "metadata:read",
    "pull_request": "pull_requests:read",
    "pull_request_review": "pull_requests:read",
    "pull_request_review_comment": "pull_requests:read",
    "push": "contents:read",
    "release": "contents:read",
    "repository": "metadata:read",
    "star": "metadata:read",
    "status": "statuses:read",
    "workflow_job": "actions:read",
    "workflow_run": "actions:read",
}
EVENTS: tuple[str, ...] = (
    "check_run",
    "check_suite",
    "create",
    "delete",
    "issue_comment",
    "merge_group",
    "pull_request",
    "push",
    "repository",
)


def covers(granted: Mapping[str, str], wanted: str) -> bool:
    """Is `wanted` (`statuses:write`) within `granted` ({"statuses": "write"})? Metadata may always be read."""
    name, _, level = wanted.partition(":")
    has = granted.get(name, "read" if name == "metadata" else "")
    order = ("", "read", "write", "admin")
    return order.index(has) >= order.index(level)
