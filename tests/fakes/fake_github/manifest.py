"""Registering an App from a manifest: what GitHub accepts, the page with the button, and the way back."""

from __future__ import annotations

import html
import json
import secrets
from urllib.parse import urlencode, urlsplit

from fake_github.acts_apps import AppActs
from fake_github.permissions import EVENT_NEEDS, covers
from fake_github.routing import NotFound
from fake_github.state import Json
from fake_github.wire import Answer, Request, page, redirect

_KEYS = {
    "name", "url", "hook_attributes", "redirect_url", "callback_urls", "setup_url", "description", "public",
    "default_events", "default_permissions", "request_oauth_on_install", "setup_on_update",
}  # fmt: skip
_PERMISSIONS = {
    "actions", "administration", "checks", "contents", "deployments", "environments", "issues", "members",
    "merge_queues", "metadata", "organization_hooks", "packages", "pages", "pull_requests", "repository_hooks",
    "secrets", "statuses", "workflows",
}  # fmt: skip
_LONGEST_NAME = 34


def problems(manifest: object, *, public_hooks_only: bool = False) -> list[str]:
    """What GitHub would say of a manifest; empty when it is taken. Keys nobody knows are told, too: GitHub ignores
    them, and a test would rather hear of the slip. `public_hooks_only` as github.com: no webhooks to this machine."""
    if not isinstance(manifest, dict):
        return ["The configuration does not appear to be a valid GitHub App manifest."]
    found = [f"{key!r} is no key of a manifest" for key in manifest if key not in _KEYS]
    hook = manifest.get("hook_attributes")
    addresses = {"url": manifest.get("url")}
    if hook is not None:  # none at all is an App without webhooks
        addresses["hook_attributes.url"] = hook.get("url") if isinstance(hook, dict) else None
    if not all(addresses.values()):
        found.append('"url" wasn\'t supplied.')  # GitHub does not say which
    for name in ("redirect_url", "setup_url"):
        addresses[name] = manifest.get(name)
    for name, value in addresses.items():
        if value and (not isinstance(value, str) or not urlsplit(value).netloc):
            found.append(f"{name} must be a valid URL")
    host = urlsplit(addresses.get("hook_attributes.url") or "").hostname or ""
    if public_hooks_only and (host in ("localhost", "::1") or host.startswith(("127.", "10.", "192.168."))):
        found.append(f"Hook url is not supported because it isn't reachable over the public Internet ({host})")
    if len(str(manifest.get("name") or "")) > _LONGEST_NAME:
        found.append(f"Name is too long (maximum is {_LONGEST_NAME} characters)")
    return found + _unsupported(manifest)


def _unsupported(manifest: Json) -> list[str]:
    permissions, events = manifest.get("default_permissions") or {}, manifest.get("default_events") or []
    found = [
        f"Default permission {name!r}: {level!r} is unknown"
        for name, level in permissions.items()
        if name not in _PERMISSIONS or level not in ("read", "write")
    ]
    unknown = [event for event in events if event not in EVENT_NEEDS]
    if unknown:
        found.append(f"Default events unsupported: {' and '.join(unknown)}")
    bare = [event for event in events if not covers(permissions, EVENT_NEEDS.get(event, "none:read"))]
    if bare:
        found.append(f"Default events are not supported by permissions: {' and '.join(bare)}")
    return found


class ManifestPages:
    """`/settings/apps/new`, `/organizations/ORG/settings/apps/new` and `/apps/SLUG/installations/new`."""

    def __init__(self, world: AppActs) -> None:
        self._world = world

    def answer(self, request: Request) -> Answer:
        """Raises NotFound for other addresses."""
        parts = request.path.strip("/").split("/")
        organization = parts[1] if parts[0] == "organizations" and len(parts) > 1 else None
        rest = parts[2:] if organization else parts
        if rest == ["settings", "apps", "new"]:
            return self._new(request, organization)
        if rest == ["settings", "apps", "manifest"] and request.method == "POST":
            return self._create(request, organization)
        if len(parts) == 4 and parts[0] == "apps" and parts[2:] == ["installations", "new"]:
            return self._install(request, parts[1])
        raise NotFound

    def _new(self, request: Request, organization: str | None) -> Answer:
        state = request.arguments.get("state", "")
        if request.method != "POST":
            return page(_document("Register a GitHub App", (
                f'<form method="post" action="?{urlencode({"state": state})}"><p>Manifest</p>'
                '<textarea name="manifest" rows="20" cols="80"></textarea><p><button>Continue</button></p></form>'
            )))  # fmt: skip
        text = request.form.get("manifest", "")
        manifest, wrong = self._read(text)
        if wrong:
            lines = "".join(f"<li>{html.escape(line)}</li>" for line in wrong)
            intro = "<p>The configuration does not appear to be a valid GitHub App manifest.</p>"
            return page(_document("Invalid GitHub App configuration", f"{intro}<ul>{lines}</ul>"), 422)
        action = f"/organizations/{organization}/settings/apps/manifest" if organization else "/settings/apps/manifest"
        name, kept = html.escape(str(manifest.get("name") or "")), html.escape(text)
        return page(_document("Create GitHub App", (
            f'<p>for {html.escape(organization or "octocat")}</p><form method="post" action="{action}">'
            f'<input type="hidden" name="manifest" value="{kept}">'
            f'<input type="hidden" name="state" value="{html.escape(state)}">'
            f'<label>GitHub App name <input name="name" value="{name}" required maxlength="{_LONGEST_NAME}"></label> '
            '<button type="submit">Create GitHub App</button></form>'
        )))  # fmt: skip

    def _read(self, text: str) -> tuple[Json, list[str]]:
        try:
            manifest = json.loads(text)
        except ValueError:
            return {}, problems(None)
        wrong = problems(manifest, public_hooks_only=self._world.public_hooks_only)
        if not wrong and any(app.name == manifest.get("name") for app in self._world.apps.values()):
            wrong = ["Name is already taken"]
        return manifest, wrong

    def _create(self, request: Request, organization: str | None) -> Answer:
        manifest, wrong = self._read(request.form.get("manifest", ""))
        name = request.form.get("name") or str(manifest.get("name") or "")
        if wrong or not name:
            return page(_document("Invalid GitHub App configuration", html.escape("; ".join(wrong))), 422)
        return redirect(self.register(manifest, request.form.get("state", ""), organization, name))

    def register(self, manifest: Json, state: str, organization: str | None, name: str) -> str:
        """Make the App, not yet handed over; where the browser goes, with the code that is good once, for an hour."""
        world, hook = self._world, manifest.get("hook_attributes") or {"url": "", "active": False}
        app = world.make_app(
            name, hook["url"], None, manifest.get("default_permissions") or {}, manifest.get("default_events") or [],
            organization or "octocat", register=False, setup_url=manifest.get("setup_url") or "",
            active=hook.get("active", True), external_url=manifest["url"],
        )  # fmt: skip
        code = secrets.token_hex(20)
        world.manifest_codes[code] = (app, world.clock())
        back = manifest.get("redirect_url") or app.html_url
        joint = "&" if urlsplit(back).query else "?"
        return f"{back}{joint}{urlencode({'code': code, **({'state': state} if state else {})})}"

    def _install(self, request: Request, slug: str) -> Answer:
        world = self._world
        app = next((found for found in world.apps.values() if found.slug == slug), None)
        if app is None:
            raise NotFound
        if request.method != "POST":
            owners = sorted({repo.owner.login for repo in world.repos.values() if not repo.gone})
            choices = "".join(f"<option>{html.escape(login)}</option>" for login in owners)
            return page(_document(f"Install {html.escape(app.name)}", (
                f'<form method="post" action="?{html.escape(request.query)}"><label>Account '
                f'<select name="account">{choices}</select></label>'
                "<p>All repositories</p><button>Install</button></form>"
            )))  # fmt: skip
        number = world.install(app, request.form.get("account") or app.owner.login)
        told = {"installation_id": number, "setup_action": "install"}
        state = request.arguments.get("state")
        query = urlencode({**told, **({"state": state} if state else {})})
        return redirect(f"{app.setup_url}?{query}" if app.setup_url else f"/settings/installations/{number}")


def _document(title: str, body: str) -> str:
    return f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><h1>{title}</h1>{body}</html>"
