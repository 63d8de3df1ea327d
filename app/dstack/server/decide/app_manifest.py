"""The manifest a GitHub App is made from, and what the App should have by it; the file is `app.yml`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

HOOK_PATH = "/webhooks/github"
# GitHub wants a webhook address even where none can be reached; `.invalid` is never anybody's (RFC 2606).
NOWHERE = "https://dstack.invalid" + HOOK_PATH


@dataclass(frozen=True, slots=True)
class AppTemplate:
    """What `app.yml` says."""

    name: str
    url: str
    permissions: dict[str, str]
    events: tuple[str, ...]


def read_template(data: Mapping[str, Any], *, push_notes: bool) -> AppTemplate:
    """`push_notes`: Git notes go to GitHub too, which takes the right to write contents."""
    permissions = {str(k): str(v) for k, v in data["default_permissions"].items()}
    if push_notes:
        permissions["contents"] = "write"
    return AppTemplate(str(data["name"]), str(data["url"]), permissions, tuple(map(str, data["default_events"])))


def manifest(template: AppTemplate, *, name: str, public_url: str, hook: str, redirect: str) -> dict[str, Any]:
    """The manifest as GitHub takes it. `hook` is where webhooks are to go, `redirect` where the browser comes back."""
    return {
        "name": name,
        "url": public_url,
        "hook_attributes": {"url": hook, "active": True},
        "redirect_url": redirect,
        "setup_url": f"{public_url}/github",
        "public": False,
        "default_permissions": template.permissions,
        "default_events": list(template.events),
    }


def hook_address(public_url: str, mode: str) -> str:
    """Where GitHub is to send webhooks. In poll mode they are read from GitHub's delivery log, so they go nowhere."""
    return NOWHERE if mode == "poll" else public_url + HOOK_PATH
