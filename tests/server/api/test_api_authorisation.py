"""Every door against every kind of caller, from the list of operations itself: a new route cannot be forgotten."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from served_api import ADMIN_TOKEN, Api, Held, WorkingCopy, serve, unique
from starlette.routing import Mount, Route

from dstack.server.asgi import ALL_OPERATIONS
from dstack.server.models.token import TokenKind
from dstack.server.web.access import Audience
from dstack.server.web.operation import Operation

UNKNOWN = {"nobody", "empty", "garbage", "expired", "used_sign_in", "removed_user", "removed_runner", "job"}
KNOWN = {"member", "member_session", "admin", "admin_session", "sign_in", "registration", "runner"}
WELCOME = {
    Audience.ANYONE: UNKNOWN | KNOWN,
    Audience.USER: {"member", "member_session", "admin", "admin_session"},
    Audience.ADMIN: {"admin", "admin_session"},
    Audience.RUNNER: {"runner"},
    Audience.REGISTRAR: {"admin", "admin_session", "registration"},
}
PLACEHOLDER = re.compile(r"\{(\w+)(?::\w+)?\}")


@dataclass(frozen=True)
class Callers:
    """A token of each kind, and the attempt whose clone token is `job`."""

    tokens: dict[str, str | None]
    held: Held


@pytest.fixture(scope="module")
def callers(api: Api) -> Callers:
    member, member_token = api.member()
    gone, gone_token = api.member()
    api.ok("DELETE", f"/api/v1/users/{gone}")
    used = api.token(TokenKind.SIGN_IN)
    assert api.call("GET", f"/sign-in?code={used}", token=None).status_code == 303
    gone_runner = api.runner()
    api.ok("DELETE", f"/api/v1/runners/{gone_runner.name}")
    held = api.attempt()
    tokens = {
        "nobody": None,
        "empty": "",
        "garbage": "dst_garbage",
        "expired": _expired(api),
        "used_sign_in": used,
        "removed_user": gone_token,
        "removed_runner": gone_runner.token,
        "job": held.order["clone_token"],
        "member": member_token,
        "member_session": api.token(TokenKind.SESSION, member),
        "admin": ADMIN_TOKEN,
        "admin_session": api.token(TokenKind.SESSION),
        "sign_in": api.token(TokenKind.SIGN_IN),
        "registration": api.registration_token(),
        "runner": api.runner().token,
    }
    assert set(tokens) == UNKNOWN | KNOWN
    return Callers(tokens, held)


def _expired(api: Api) -> str:
    return api.token(TokenKind.PERSONAL, life_s=-1)


def _address(operation: Operation) -> str:
    return PLACEHOLDER.sub("1", operation.path)


@pytest.mark.parametrize("operation", ALL_OPERATIONS, ids=lambda o: f"{o.method} {o.path}")
def test_each_operation_admits_its_audience_and_nobody_else(api: Api, callers: Callers, operation: Operation) -> None:
    assert operation.audience is not Audience.ANYONE, "open operations are named in a test of their own"
    for kind, token in callers.tokens.items():
        for method in {operation.method, "HEAD" if operation.method == "GET" else operation.method}:
            answer = api.call(method, _address(operation), token)
            if kind in WELCOME[operation.audience]:
                assert answer.status_code not in (401, 403), (kind, method, answer.text)
                assert answer.status_code < 500
            else:
                assert answer.status_code == (401 if kind in UNKNOWN else 403), (kind, method, answer.text)
                if method != "HEAD":
                    problem = answer.json()
                    assert problem["error"] == ("not_signed_in" if kind in UNKNOWN else "not_allowed")
                    assert set(problem) == {"error", "message", "hint", "request_id"}
                    assert (token or "no token") not in answer.text


def test_every_route_below_the_api_is_an_operation(api: Api) -> None:
    listed = {(o.method, o.path) for o in ALL_OPERATIONS}
    assert len(listed) == len(ALL_OPERATIONS)
    routed = {
        (method, route.path)
        for route in api.routes
        if isinstance(route, Route) and route.path.startswith("/api/")
        for method in route.methods or ()
        if method != "HEAD"
    }
    assert routed - listed == {("GET", "/api/openapi.json")}
    assert listed <= routed


OPEN_PAGES = {
    "/healthz",
    "/api/openapi.json",
    "/wheels/{name}",
    "/badge/{owner}/{name}.svg",
    "/sign-in",
    "/webhooks/github",
}


def test_every_page_sends_strangers_to_the_sign_in(api: Api, callers: Callers) -> None:
    pages = [
        route
        for route in api.routes
        if isinstance(route, Route) and not route.path.startswith("/api/") and route.path != "/{path:path}"
    ]
    assert len(pages) > 12
    assert {r.path for r in api.routes if isinstance(r, Mount)} == {"/api", "/git", "/static"}
    for route in pages:
        if route.path in OPEN_PAGES:
            continue
        for method in route.methods or ():
            for token in (callers.tokens["sign_in"], callers.tokens["admin"], callers.tokens["runner"], "garbage", ""):
                cookies = {"dstack_session": token or ""}
                answer = api.call(method, PLACEHOLDER.sub("1", route.path), None, cookies=cookies)
                assert answer.status_code in (303, 400, 403), (method, route.path, answer.status_code)
                assert answer.status_code != 303 or answer.headers["location"].startswith("/sign-in")


# Paths that mean another door to a careless reader (B93).
@pytest.mark.parametrize(
    "path",
    ["/api/v1/users;.css", "//api/v1/users", "/api//v1/users", "/api/v1/users/", "/x;.css",
     "//admin", "/%2fadmin", "/api/v1/../v1/users", "/git/../api/v1/users", "/static/..%2f..%2fpyproject.toml",
     "/static/../pages/run.html", "/wheels/..%2f..%2fdstack.db", "/wheels/../dstack.db"],
)  # fmt: skip
@pytest.mark.parametrize("token", [None, ADMIN_TOKEN])
def test_a_path_means_one_thing(api: Api, path: str, token: str | None) -> None:
    assert api.raw("GET", path, token) in (400, 404)


def test_an_encoded_slash_is_the_same_door(api: Api) -> None:
    assert api.raw("GET", "/api/v1%2fusers", None) == 401
    assert api.raw("GET", "/api/v1%2fusers", api.member()[1]) == 403


# The Git door


@dataclass(frozen=True)
class GitRow:
    kind: str
    read: int
    push: int
    read_absent: int
    push_absent: int


GIT = [
    *(GitRow(kind, 401, 401, 401, 401) for kind in sorted(UNKNOWN - {"job"})),
    *(GitRow(kind, 403, 403, 403, 403) for kind in ("sign_in", "registration", "runner")),
    *(GitRow(kind, 200, 200, 404, 404) for kind in ("member", "member_session")),
    *(GitRow(kind, 200, 200, 404, 200) for kind in ("admin", "admin_session")),
    GitRow("job", 404, 404, 404, 404),  # its own repo is `local/shared`
]


def refs(api: Api, repo: str, token: str | None, service: str) -> int:
    auth = ("any", token) if token is not None else None
    path = f"/git/{repo}.git/info/refs?service=git-{service}"
    return api.call("GET", path, None, auth=auth, headers={"Git-Protocol": "version=2"}).status_code


@pytest.fixture(scope="module")
def copy(api: Api) -> WorkingCopy:
    copy = api.working_copy()
    copy.commit({"a": "1"})
    copy.push()
    return copy


def test_the_git_table_knows_every_caller() -> None:
    assert {row.kind for row in GIT} == UNKNOWN | KNOWN


@pytest.mark.parametrize("row", GIT, ids=lambda row: row.kind)
def test_who_may_read_and_push(api: Api, callers: Callers, copy: WorkingCopy, row: GitRow) -> None:
    token = callers.tokens[row.kind]
    assert refs(api, copy.repo, token, "upload-pack") == row.read
    assert refs(api, copy.repo, token, "receive-pack") == row.push
    assert refs(api, f"local/{unique('absent')}", token, "upload-pack") == row.read_absent
    assert refs(api, f"local/{unique('absent')}", token, "receive-pack") == row.push_absent


def test_a_jobs_token_reads_its_own_repo_while_the_job_lives(api: Api, copy: WorkingCopy) -> None:
    held = api.attempt()
    token, lease = held.order["clone_token"], held.lease
    assert refs(api, "local/shared", token, "upload-pack") == 200
    assert refs(api, "local/shared", token, "receive-pack") == 403
    assert refs(api, copy.repo, token, "upload-pack") == 404
    assert refs(api, "local/absent", token, "receive-pack") == 404
    assert refs(api, "local/shared", f"{held.attempt}.wrong", "upload-pack") == 401
    other = api.attempt()
    assert refs(api, "local/shared", f"{other.attempt}.{lease}", "upload-pack") == 401
    assert api.call("GET", "/api/v1/runs", token).status_code == 401
    held.end()
    assert refs(api, "local/shared", token, "upload-pack") == 401
    assert api.call("GET", "/api/v1/runs", token).status_code == 401


@pytest.fixture
def dotted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with serve(tmp_path_factory.mktemp("dotted"), admin_token="an.admin.token.with.dots") as api:
        yield api


def test_an_admin_token_may_have_dots(dotted: Api) -> None:
    """Job tokens have one too; that must not take the admin's for a job's."""
    token = "an.admin.token.with.dots"
    assert dotted.call("GET", "/api/v1/users", token).status_code == 200
    assert refs(dotted, "local/new", token, "receive-pack") == 200
    assert refs(dotted, "local/new", "another.token.with.dots", "upload-pack") == 401
