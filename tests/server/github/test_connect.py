"""From no App to a connected one: the manifest's way over GitHub's page and back, and what the doctor says then."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from fake_github import FakeGitHub
from served_api import Api, serve

from dstack.server.timers.sync_installations import sync_installations


@pytest.fixture
def github(tmp_path: Path) -> Iterator[FakeGitHub]:
    with FakeGitHub(tmp_path / "github") as github:
        yield github


@pytest.fixture
def api(tmp_path: Path, github: FakeGitHub) -> Iterator[Api]:
    with serve(tmp_path / "server", github_api_url=github.api_url, github_url=github.url) as api:
        yield api


def field(page: str, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]*)"', page)
    assert found, page
    return unescape(found[1])


def action(page: str) -> str:
    found = re.search(r'<form method="post" action="([^"]+)"', page)
    assert found, page
    return unescape(found[1])


def begin(api: Api, **more: object) -> str:
    """The address that the command prints, on the port of this test."""
    url = urlsplit(api.ok("POST", "/api/v1/github/app", json=more)["url"])
    return f"{api.url}{url.path}"


def go_to_github(start: str) -> str:
    """What a person does: open the page, press both buttons; the address that the browser is sent back to."""
    with requests.Session() as browser:
        page = browser.get(start, timeout=10)
        assert page.status_code == 200, page.text
        policy = page.headers["content-security-policy"]
        to = action(page.text)
        assert f"form-action {urlsplit(to).scheme}://{urlsplit(to).netloc}" in policy
        theirs = browser.post(to, data={"manifest": field(page.text, "manifest")}, timeout=10)
        assert theirs.status_code == 200, theirs.text
        form = re.search(r'<form[^>]*action="([^"]*)"', theirs.text)
        fields = {n: unescape(v) for n, v in re.findall(r'<input[^>]*name="([^"]+)"[^>]*value="([^"]*)"', theirs.text)}
        target = unescape(form[1]) if form else theirs.url
        target = target if "://" in target else f"{urlsplit(to).scheme}://{urlsplit(to).netloc}{target}"
        back = browser.post(target, data=fields, timeout=10, allow_redirects=False)
        assert back.status_code in (302, 303), back.text
        return back.headers["location"]


def come_back(api: Api, location: str) -> requests.Response:
    url = urlsplit(location)
    return api.call("GET", f"{url.path}?{url.query}", token=None)


def test_an_app_is_made_connected_and_kept(api: Api, github: FakeGitHub) -> None:
    assert api.ok("GET", "/api/v1/github")["connected"] is False
    location = go_to_github(begin(api, name="dstack-acme"))
    assert urlsplit(location).path == "/github/connected" and {"code", "state"} <= set(
        parse_qs(urlsplit(location).query)
    )
    page = come_back(api, location)
    assert page.status_code == 200 and "Connected to GitHub" in page.text, page.text
    now = api.ok("GET", "/api/v1/github")
    assert (now["connected"], now["app"], now["mode"]) == (True, "dstack-acme", "poll"), "127.0.0.1 is private"
    assert now["install_url"] == f"{github.url}/apps/dstack-acme/installations/new"
    assert "Install it on your repositories" in page.text
    assert not github.violations
    # The code is used up, and a second App is not made by accident.
    assert come_back(api, location).status_code == 409
    assert api.call("POST", "/api/v1/github/app", json={}).status_code == 409
    # Nothing of it lies about in clear.
    secret = next(iter(github.apps.values())).webhook_secret.encode()
    stored = b"".join(path.read_bytes() for path in (api.folder / "data").glob("dstack.db*"))
    assert stored and b"PRIVATE KEY" not in stored and secret not in stored


def test_a_stored_app_is_connected_again_at_the_next_start(tmp_path: Path, github: FakeGitHub) -> None:
    settings = {"github_api_url": github.api_url, "github_url": github.url}
    with serve(tmp_path / "server", **settings) as api:
        assert come_back(api, go_to_github(begin(api))).status_code == 200
        slug = api.ok("GET", "/api/v1/github")["app"]
    with serve(tmp_path / "server", **settings) as api:
        now = api.ok("GET", "/api/v1/github")
        assert now["connected"] and now["app"] == slug
        api.ok("DELETE", "/api/v1/github/app")
        assert api.ok("GET", "/api/v1/github")["connected"] is False
        assert api.call("DELETE", "/api/v1/github/app").status_code == 404


def test_a_strange_or_old_state_opens_nothing(api: Api) -> None:
    start = begin(api)
    state = start.rpartition("/")[2]
    for wrong in ("x", state[:-4] + "AAAA", "%00", "A" * 4000):
        assert api.call("GET", f"/github/connect/{wrong}", token=None).status_code in (400, 403, 404), wrong
    assert api.call("GET", f"/github/connected?code=abc&state={state}", token=None).status_code in (403, 502)
    assert api.call("GET", "/github/connected?code=abc&state=", token=None).status_code == 403
    api.clock.ahead += 3601
    assert api.call("GET", f"/github/connect/{state}", token=None).status_code == 403
    assert api.ok("GET", "/api/v1/github")["connected"] is False


def test_the_doctor_looks_at_both_sides(api: Api, github: FakeGitHub) -> None:
    report = api.ok("POST", "/api/v1/github/doctor", json={})
    assert report["findings"][0]["said"] == "no GitHub App is connected"
    come_back(api, go_to_github(begin(api)))
    report = api.ok("POST", "/api/v1/github/doctor", json={})
    found = {f["check"]: f for f in report["findings"]}
    assert found["key"]["level"] == found["permissions"]["level"] == found["events"]["level"] == "ok", report
    assert found["clock"]["level"] == "ok"
    assert found["installations"]["level"] == "problem"
    github.create_repo("acme/vision", files={"README.md": "x"})
    github.install(next(iter(github.apps.values())), "acme", ["acme/vision"])
    assert sync_installations(api.wiring) == 1
    report = api.ok("POST", "/api/v1/github/doctor", json={})
    found = {f["check"]: f for f in report["findings"]}
    assert found["installation acme"]["said"] == "1 repository"
    assert api.ok("GET", "/api/v1/github")["repos"] == ["acme/vision"]
    assert not github.violations


def test_a_stored_apps_secret_is_changed_without_a_gap(tmp_path: Path, github: FakeGitHub) -> None:
    settings = {"github_api_url": github.api_url, "github_url": github.url}
    with serve(tmp_path / "server", **settings) as api:
        come_back(api, go_to_github(begin(api)))
    with serve(tmp_path / "server", **settings, github_webhook_secret="the-new-one") as api:
        old = next(iter(github.apps.values())).webhook_secret
        assert api.wiring.forge.webhook_secrets == (old, "the-new-one")
