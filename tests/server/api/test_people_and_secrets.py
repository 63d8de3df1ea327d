"""Users, sessions and secrets at the real doors: who comes in, for how long, and what is never shown."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import requests
from served_api import ADMIN_TOKEN, Api, ARunner, serve, unique
from sqlalchemy import update
from sqlmodel import col

from dstack.errors import Invalid
from dstack.server.bootstrap import start
from dstack.server.models import Run, Secret
from dstack.server.models.token import TokenKind
from dstack.server.services.manage_users import SESSION_S, SIGN_IN_S, find_caller
from dstack.server.settings import Settings
from dstack.server.store.people import list_users
from dstack.server.store.secrets import secrets_of_repo
from dstack.server.web.access import Pace
from dstack.wire.job import Command, Job

FORM = "application/x-www-form-urlencoded"
CANARY = "canary-4f1d0c-value"


@pytest.fixture
def apart(tmp_path: Path) -> Iterator[Api]:
    with serve(tmp_path) as api:
        yield api


# Users


def test_a_user_is_added_renewed_and_removed(api: Api) -> None:
    name, token = api.member()
    assert api.ok("GET", "/api/v1/server", token)["user"] == name
    fresh = api.ok("POST", f"/api/v1/users/{name}/token")["token"]
    assert api.call("GET", "/api/v1/server", token).status_code == 401
    assert api.ok("GET", "/api/v1/server", fresh)["role"] == "member"
    listed = api.ok("GET", "/api/v1/users")
    assert {"name": name, "role": "member", "token": None}.items() <= next(
        u for u in listed if u["name"] == name
    ).items()
    assert fresh not in str(listed)
    session = api.token(TokenKind.SESSION, name)
    assert api.call("DELETE", f"/api/v1/users/{name}").status_code == 204
    for gone in (fresh, session):
        assert api.call("GET", "/api/v1/server", gone).status_code == 401
    assert api.call("DELETE", f"/api/v1/users/{name}").status_code == 404
    assert api.call("POST", f"/api/v1/users/{name}/token").status_code == 404


def test_a_name_is_taken_once(api: Api) -> None:
    name, _ = api.member()
    answer = api.call("POST", "/api/v1/users", json={"name": name})
    assert (answer.status_code, answer.json()["error"]) == (409, "conflict")


def test_the_last_admin_stays(apart: Api) -> None:
    refused = apart.call("DELETE", "/api/v1/users/admin")
    assert (refused.status_code, refused.json()["error"]) == (409, "conflict")
    second = apart.ok("POST", "/api/v1/users", json={"name": "grace", "role": "admin"})["token"]
    assert apart.call("DELETE", "/api/v1/users/admin", second).status_code == 204
    assert apart.call("DELETE", "/api/v1/users/grace", second).status_code == 409


def test_a_removed_admin_stays_removed_over_a_restart(tmp_path: Path) -> None:
    with serve(tmp_path) as api:
        grace = api.ok("POST", "/api/v1/users", json={"name": "grace", "role": "admin"})["token"]
        assert api.call("DELETE", "/api/v1/users/admin", grace).status_code == 204
        api.ok("POST", "/api/v1/users", grace, json={"name": "admin"})  # the name is free for anybody now
    with start(Settings(data=tmp_path / "data", admin_token=ADMIN_TOKEN)) as started:
        assert started.first_token is None
        read, now = started.wiring.db.read, started.wiring.clock.now()
        roles = read(lambda s: {user.name: user.role.value for user in list_users(s)})
        assert roles == {"admin": "member", "grace": "admin"}
        caller = read(lambda s: find_caller(s, ADMIN_TOKEN, now))
        assert caller.user is not None and caller.user.name == "grace"


def test_tokens_are_stored_as_digests_only(api: Api) -> None:
    _, token = api.member()
    for file in api.wiring.settings.data.glob("dstack.db*"):
        assert token.encode() not in file.read_bytes()
        assert ADMIN_TOKEN.encode() not in file.read_bytes()


def test_what_guards_the_server_is_for_its_user_alone(api: Api) -> None:
    data = api.wiring.settings.data
    assert data.stat().st_mode & 0o77 == 0
    assert (data / "secret.key").stat().st_mode & 0o77 == 0


# Signing in


def sign_in(api: Api, **fields: str) -> requests.Response:
    return api.call("POST", "/sign-in", None, data=fields)


def page(api: Api, session: str, path: str = "/runners", **more: Any) -> requests.Response:
    return api.call("GET", path, None, cookies={"dstack_session": session}, **more)


def test_a_typed_token_opens_a_session(api: Api) -> None:
    name, token = api.member()
    answer = sign_in(api, token=f" {token} ", next="/runners")
    assert (answer.status_code, answer.headers["location"]) == (303, "/runners")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=lax" in cookie and "Path=/" in cookie
    session = answer.cookies["dstack_session"]
    assert session != token and name in page(api, session).text


@pytest.mark.parametrize("token", ["", "garbage", "é" * 10, "x" * 10_000])
def test_another_token_opens_none(api: Api, token: str) -> None:
    answer = sign_in(api, token=token)
    assert answer.status_code in (401, 429)
    assert "set-cookie" not in answer.headers


def test_the_printed_link_works_once(apart: Api) -> None:
    link = apart.token(TokenKind.SIGN_IN)
    first = apart.call("GET", f"/sign-in?code={link}&next=/tags", None)
    assert (first.status_code, first.headers["location"]) == (303, "/tags")
    assert link not in first.headers["location"] + first.headers["set-cookie"]
    second = apart.call("GET", f"/sign-in?code={link}", None)
    assert second.status_code == 401 and "set-cookie" not in second.headers
    late = apart.token(TokenKind.SIGN_IN)
    apart.pass_time(SIGN_IN_S + 1)
    assert apart.call("GET", f"/sign-in?code={late}", None).status_code == 401


def test_a_session_ends(apart: Api) -> None:
    session, other = apart.token(TokenKind.SESSION), apart.token(TokenKind.SESSION)
    assert page(apart, session).status_code == 200
    csrf = re.search(r'name="csrf" value="(\w+)"', page(apart, session).text)
    assert csrf
    left = apart.call("POST", "/sign-out", None, cookies={"dstack_session": session}, data={"csrf": csrf.group(1)})
    assert left.status_code == 303
    assert page(apart, session).status_code == 303
    assert page(apart, other).status_code == 200
    apart.pass_time(SESSION_S + 1)
    assert page(apart, other).status_code == 303
    assert apart.call("GET", "/api/v1/server", other).status_code == 401


@pytest.mark.parametrize(
    "onward", ["//evil.example", "/\\evil.example", "https://evil.example", "javascript:x", "\t//x"]
)
def test_signing_in_stays_on_this_server(apart: Api, onward: str) -> None:
    """B86."""
    answer = sign_in(apart, token=ADMIN_TOKEN, next=onward)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")


def test_guessing_is_slowed_down(apart: Api) -> None:
    statuses = [sign_in(apart, token=f"guess-{n}").status_code for n in range(40)]
    assert set(statuses) == {401, 429} and statuses[-1] == 429


def test_who_guesses_keeps_nobody_else_out(apart: Api) -> None:
    def try_from(host: str, token: str) -> int:
        with closing(HTTPConnection(apart.url.removeprefix("http://"), timeout=10, source_address=(host, 0))) as way:
            way.request("POST", "/sign-in", urlencode({"token": token}), {"Content-Type": FORM})
            return way.getresponse().status

    assert 429 in [try_from("127.0.0.2", f"guess-{n}") for n in range(40)]
    assert try_from("127.0.0.1", ADMIN_TOKEN) == 303


def test_the_pace_forgets_who_is_silent() -> None:
    now = [0.0]
    pace = Pace(5, lambda: now[0])
    for number in range(10_000):
        pace.take(number)
    for _ in range(9):
        pace.take("busy")
    assert len(pace._level) == 10_001
    now[0] = 0.5
    pace.take("new")
    assert set(pace._level) == {"busy", "new"}


def test_looking_at_the_printed_link_does_not_use_it_up(apart: Api) -> None:
    link = apart.token(TokenKind.SIGN_IN)
    looked = apart.call("HEAD", f"/sign-in?code={link}", None)
    assert looked.status_code == 200 and "set-cookie" not in looked.headers
    assert apart.call("GET", f"/sign-in?code={link}", None).status_code == 303


# Forms


def test_a_form_needs_its_own_session_and_origin(api: Api) -> None:
    """B85."""
    run = api.run()
    session = api.token(TokenKind.SESSION)
    found = re.search(r'name="csrf" value="(\w+)"', page(api, session).text)
    assert found
    csrf, cookies = found.group(1), {"dstack_session": session}
    other = re.search(r'name="csrf" value="(\w+)"', page(api, api.token(TokenKind.SESSION)).text)
    assert other and other.group(1) != csrf

    def post(fields: dict[str, str], **more: Any) -> int:
        return api.call("POST", f"/runs/{run}/stop", None, data=fields, cookies=cookies, **more).status_code

    for wrong in ({"other": "x"}, {"csrf": ""}, {"csrf": "x"}, {"csrf": other.group(1)}, {"csrf": session}):
        assert post(wrong) == 403
    for origin in ("https://evil.example", "null", f"{api.url}.evil.example", "http://127.0.0.1:1"):
        assert post({"csrf": csrf}, headers={"Origin": origin}) == 403
    assert post({"csrf": csrf}, headers={"Sec-Fetch-Site": "cross-site"}) == 403
    assert api.get_run(run)["state"] == "queued"
    assert post({"csrf": csrf}, headers={"Origin": api.url}) == 303
    assert api.get_run(run)["state"] == "stopped"


def test_a_cookie_opens_no_api_door(api: Api) -> None:
    """A page elsewhere could make a browser send it."""
    cookies = {"dstack_session": api.token(TokenKind.SESSION)}
    assert api.call("GET", "/api/v1/server", None, cookies=cookies).status_code == 401
    assert api.call("POST", "/api/v1/prune", None, cookies=cookies, json={}).status_code == 401


def test_headers_of_a_proxy_or_a_forged_host_change_no_link(api: Api) -> None:
    """B88."""
    session = api.token(TokenKind.SESSION)
    forged = {"Host": "evil.example", "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https",
              "Forwarded": "host=evil.example"}  # fmt: skip
    for path in ("/", "/runners", "/tags", "/nowhere"):
        answer = page(api, session, path, headers=forged)
        assert "evil.example" not in answer.text + str(answer.headers)
    away = api.call("GET", "/tags?a=1", None, headers=forged)
    assert away.headers["location"].startswith("/sign-in")
    assert "evil.example" not in api.call("GET", "/api/v1/repos", headers=forged).text


def test_every_answer_may_not_be_framed(api: Api) -> None:
    """B91."""
    session = api.token(TokenKind.SESSION)
    for path in ("/", "/sign-in", "/nowhere", "/api/v1/server", "/api/openapi.json", "/healthz"):
        headers = page(api, session, path).headers
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"


# Secrets


@pytest.fixture(scope="module")
def secret(api: Api) -> str:
    """A repo with a secret."""
    repo = f"local/{unique('secretive')}"
    api.ok("POST", "/api/v1/repos", json={"name": repo})
    api.ok("PUT", f"/api/v1/repos/{repo}/secrets/TOKEN", json={"value": CANARY})
    return repo


def test_a_secret_is_sealed_and_never_shown(api: Api, secret: str) -> None:
    listed = api.call("GET", f"/api/v1/repos/{secret}/secrets")
    assert [s["name"] for s in listed.json()] == ["TOKEN"] and CANARY not in listed.text
    again = api.call("PUT", f"/api/v1/repos/{secret}/secrets/TOKEN", json={"value": CANARY})
    assert CANARY not in again.text
    for path in ("/api/v1/repos", "/api/v1/runs", "/api/openapi.json"):
        assert CANARY not in api.call("GET", path).text
    with sqlite3.connect(api.wiring.settings.data / "dstack.db") as base:
        base.execute("PRAGMA query_only=ON")
        assert base.execute("SELECT count(*) FROM secrets").fetchone()[0] >= 1
    for file in (f for f in api.wiring.settings.data.rglob("*") if f.is_file()):
        assert CANARY.encode() not in file.read_bytes(), file


def test_a_sealed_value_opens_in_its_own_row_only(api: Api, secret: str) -> None:
    repo_id = api.repo_id(secret)
    (row,) = api.wiring.db.read(lambda s: secrets_of_repo(s, repo_id))
    vault = api.wiring.vault
    assert vault.open_secret(row) == CANARY
    fields = {"sealed": row.sealed, "key_id": row.key_id, "updated_at": 0.0, "updated_by": "x"}
    for moved in (
        Secret(repo_id=repo_id + 1, name="TOKEN", **fields),
        Secret(repo_id=repo_id, name="OTHER", **fields),
        Secret(repo_id=repo_id, name="TOKEN", **fields | {"sealed": row.sealed[:-1] + b"\0"}),
        Secret(repo_id=repo_id, name="TOKEN", **fields | {"sealed": b""}),
    ):
        with pytest.raises(Invalid) as caught:
            vault.open_secret(moved)
        assert CANARY not in str(caught.value)
    assert vault.seal_secret(repo_id, "TOKEN", CANARY) != row.sealed


def wanting(held_by: ARunner, *names: str) -> Job:
    return replace(held_by.only(Job((Command("true"),))), secrets=names)


def test_a_secret_reaches_the_job_that_names_it_and_no_other(api: Api) -> None:
    api.shared_repo()
    api.ok("PUT", "/api/v1/repos/local/shared/secrets/NAMED", json={"value": CANARY})
    runner = api.runner(isolated=True, untrusted=True)
    named = runner.take(api.run(wanting(runner, "NAMED")))
    plain = runner.take(api.run(wanting(runner)))
    foreign = api.run(wanting(runner, "NAMED"))
    api.wiring.db.write(lambda s: s.exec(update(Run).where(col(Run.name) == foreign).values(trusted=False)))
    untrusted = runner.take(foreign)
    assert named.order["secrets"] == {"NAMED": CANARY}
    assert plain.order["secrets"] == {}
    assert untrusted.order["secrets"] == {}
    assert CANARY not in str(api.get_run(named.run))
    assert CANARY not in page(api, api.token(TokenKind.SESSION), f"/runs/{named.run}").text
    api.ok("DELETE", "/api/v1/repos/local/shared/secrets/NAMED")
    missing = api.run(wanting(runner, "NAMED"))
    offer = runner.offer(missing)
    refused = runner.call("POST", f"/api/v1/attempts/{offer['attempt']}/accept")
    assert refused.status_code == 409
    run = api.get_run(missing)
    assert (run["state"], run["reason"]) == ("failed", "config")
    assert "dstack secrets set NAMED" in run["jobs"][0]["message"]


def test_another_key_opens_nothing_and_says_what_to_do(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with serve(tmp_path) as api:
        api.ok("POST", "/api/v1/repos", json={"name": "local/x"})
        api.ok("PUT", "/api/v1/repos/local/x/secrets/A", json={"value": CANARY})
    (data / "secret.key").unlink()
    with start(Settings(data=data)) as started:
        (row,) = started.wiring.db.read(lambda s: secrets_of_repo(s, 1))
        with pytest.raises(Invalid, match="another key") as caught:
            started.wiring.vault.open_secret(row)
        assert "dstack secrets set A" in caught.value.hint
