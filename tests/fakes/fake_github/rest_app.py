"""REST: the App itself, its installations and tokens, its delivery log, and the manifest's conversion."""

from __future__ import annotations

from typing import Any

from fake_github import shapes
from fake_github.permissions import covers
from fake_github.rest_repos import ONE
from fake_github.routing import NotFound, Op, Refusal, Unprocessable, paged, route
from fake_github.state import Delivery, Installation, Repo, iso
from fake_github.wire import Answer


@route("GET", "/app", who="app")
def get_app(op: Op) -> Answer:
    count = sum(1 for found in op.world.installations.values() if found.app is op.app and not found.gone)
    return Answer(200, {**shapes.integration(op.at, op.app), "installations_count": count})


@route("GET", "/app/installations", who="app")
def list_installations(op: Op) -> Answer:
    found = [i for i in op.world.installations.values() if i.app is op.app and not i.gone]
    return paged(op, [shapes.installation(op.at, i) for i in found])


@route("GET", f"{ONE}/installation", who="app")
def repo_installation(op: Op) -> Answer:
    found = op.world.installation_of(op.app, op.repo)
    if found is None:
        raise NotFound
    return Answer(200, shapes.installation(op.at, found))


@route("POST", "/app/installations/{installation_id}/access_tokens", who="app")
def create_token(op: Op) -> Answer:
    found = op.world.installations.get(op.number("installation_id"))
    if found is None or found.app is not op.app or found.gone:
        raise NotFound
    if found.suspended_at is not None:
        raise Refusal(403, "This installation has been suspended")
    body = op.body or {}
    repos = _narrowed(op, found, body)
    permissions = dict(body.get("permissions") or found.permissions)
    if not all(covers(found.permissions, f"{name}:{level}") for name, level in permissions.items()):
        raise Unprocessable("The permissions requested are not granted to this installation.")
    permissions.setdefault("metadata", "read")
    token = op.world.new_token(
        "ghs_", op.world.token_life_s, installation=found, permissions=permissions,
        repo_ids={repo.id for repo in repos} if repos is not None else None,
    )  # fmt: skip
    selection = "all" if found.repo_ids is None and repos is None else "selected"
    shape: dict[str, Any] = {
        "token": token.value, "expires_at": iso(token.expires_at), "permissions": permissions,
        "repository_selection": selection,
    }  # fmt: skip
    if repos is not None:
        shape["repositories"] = [shapes.repository(op.at, repo) for repo in repos]
    return Answer(201, shape)


def _narrowed(op: Op, found: Installation, body: dict[str, Any]) -> list[Repo] | None:
    """The repositories the token is asked for; None: all of the installation."""
    names, ids = body.get("repositories"), body.get("repository_ids")
    if names is None and ids is None:
        return None
    reached = [repo for repo in op.world.repos.values() if op.world.reaches(found, repo)]
    wanted: list[str | int] = [*(str(name).lower() for name in names or ()), *(int(one) for one in ids or ())]
    if len(wanted) > 500:
        raise Unprocessable("There are too many repositories")
    by_key: dict[str | int, Repo] = {repo.id: repo for repo in reached}
    by_key |= {repo.name.lower(): repo for repo in reached}
    if not all(one in by_key for one in wanted):
        raise Unprocessable(
            "There is at least one repository that does not exist or is not accessible to the parent installation."
        )
    return list({by_key[one].id: by_key[one] for one in wanted}.values())


@route("GET", "/installation/repositories", who="installation")
def installation_repositories(op: Op) -> Answer:
    token = op.caller.token
    assert token is not None
    found = [
        repo
        for repo in op.world.repos.values()
        if op.world.reaches(op.installation, repo) and (token.repo_ids is None or repo.id in token.repo_ids)
    ]
    answer = paged(op, [shapes.repository(op.at, repo) for repo in found], "repositories")
    answer.body["repository_selection"] = "all" if op.installation.repo_ids is None else "selected"
    return answer


@route("GET", "/app/hook/config", who="app")
def hook_config(op: Op) -> Answer:
    url, secret = op.app.webhook_url, "********" if op.app.webhook_secret else None
    shape = {"content_type": "json", "insecure_ssl": "0", "url": url}
    return Answer(200, {**shape, "secret": secret} if secret else shape)


@route("GET", "/app/hook/deliveries", who="app")
def list_deliveries(op: Op) -> Answer:
    """Newest first; the cursor is the last id shown."""
    size = max(1, min(100, int(op.query.get("per_page") or 30)))
    cursor, wanted = op.query.get("cursor", ""), op.query.get("status")
    if cursor and not cursor.removeprefix("v1_").isdigit():
        raise Refusal(400, "Invalid cursor")
    found = op.world.webhooks.deliveries(op.app)
    if cursor:
        found = [d for d in found if d.id < int(cursor.removeprefix("v1_"))]
    if wanted is not None:
        found = [d for d in found if (d.status == "OK") == (wanted == "success")]
    shown, more = found[:size], len(found) > size
    headers = {}
    if more:
        rest = f"&status={wanted}" if wanted else ""
        address = f"{op.at.api}/app/hook/deliveries?per_page={size}&cursor=v1_{shown[-1].id}{rest}"
        headers["Link"] = f'<{address}>; rel="next"'
    return Answer(200, [shapes.delivery(d) for d in shown], headers)


def _delivery(op: Op) -> Delivery:
    wanted = op.number("delivery_id")
    found = next((d for d in op.world.webhooks.deliveries(op.app) if d.id == wanted), None)
    if found is None:
        raise NotFound
    return found


@route("GET", "/app/hook/deliveries/{delivery_id}", who="app")
def get_delivery(op: Op) -> Answer:
    return Answer(200, shapes.delivery(_delivery(op), whole=True))


@route("POST", "/app/hook/deliveries/{delivery_id}/attempts", who="app")
def redeliver(op: Op) -> Answer:
    op.world.webhooks.redeliver(_delivery(op))
    return Answer(202, {})


@route("POST", "/app-manifests/{code}/conversions", who="any")
def convert_manifest(op: Op) -> Answer:
    app, made_at = op.world.manifest_codes.pop(op.params["code"], (None, 0.0))
    if app is None or op.world.clock() - made_at > 3600:
        raise NotFound
    op.world.apps[app.id] = app
    more = {"client_secret": app.client_secret, "webhook_secret": app.webhook_secret, "pem": app.pem}
    return Answer(201, {**shapes.integration(op.at, app), **more})


@route("GET", "/rate_limit", who="any")
def rate_limit(op: Op) -> Answer:
    headers = op.world.budget.headers(op.caller)
    rate = {
        "limit": int(headers["X-RateLimit-Limit"]), "used": int(headers["X-RateLimit-Used"]),
        "remaining": int(headers["X-RateLimit-Remaining"]), "reset": int(headers["X-RateLimit-Reset"]),
    }  # fmt: skip
    return Answer(200, {"resources": {"core": rate, "search": {**rate, "limit": 30}}, "rate": rate})


@route("GET", "/user")
def get_user(op: Op) -> Answer:
    if op.caller.account is None:
        raise Refusal(403, "Resource not accessible by integration")
    who = op.caller.account
    blank = dict.fromkeys(("name", "company", "blog", "location", "email", "hireable", "bio"))
    counts = dict.fromkeys(("public_repos", "public_gists", "followers", "following"), 0)
    made = "2020-01-01T00:00:00Z"
    return Answer(200, {**shapes.account(op.at, who), **blank, **counts, "created_at": made, "updated_at": made})
