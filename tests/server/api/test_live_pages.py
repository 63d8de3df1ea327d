"""The pages over the real store: what people open, press, and type into the address."""

from __future__ import annotations

import re
from typing import Any

import pytest
import requests
from served_api import Api, Held

from dstack.server.models.token import TokenKind


@pytest.fixture(scope="module")
def cookies(api: Api) -> dict[str, str]:
    return {"dstack_session": api.token(TokenKind.SESSION)}


@pytest.fixture(scope="module")
def held(api: Api) -> Held:
    held = api.attempt(workflow="paged")
    held.state("running")
    held.ok("POST", "metrics", json={"offset": 0, "points": [{"name": "loss", "value": 0.5, "step": 1}]})
    held.log(b"one\ntwo\n")
    held.save("out", {"out/x": b"x"})
    report = "# Report\n<script>alert(1)</script> [x](javascript:alert(1)) {{7*7}}"
    held.end(metrics={"accuracy": 0.75}, report=report)
    api.ok("PUT", "/api/v1/repos/local/shared/tags/paged/latest", json={"run": held.run})
    return held


def get(api: Api, cookies: dict[str, str], path: str, **more: Any) -> requests.Response:
    return api.call("GET", path, None, cookies=cookies, **more)


def test_every_page_shows_what_is_there(api: Api, cookies: dict[str, str], held: Held) -> None:
    (artifact,) = api.ok("GET", f"/api/v1/runs/{held.run}/artifacts")
    shown = {
        "/": held.run,
        "/?state=succeeded&workflow=paged": held.run,
        f"/runs/{held.run}": "accuracy",
        f"/runs/{held.run}/log?attempt={held.attempt}": "two",
        f"/artifacts/{artifact['id']}": "out/x",
        "/tags": "paged",
        "/runners": held.runner.name,
    }
    for path, text in shown.items():
        answer = get(api, cookies, path)
        assert (answer.status_code, text in answer.text) == (200, True), path
        assert answer.headers["cache-control"] == "no-store"


def test_a_report_is_harmless(api: Api, cookies: dict[str, str], held: Held) -> None:
    """B83."""
    page = get(api, cookies, f"/runs/{held.run}").text
    assert "<script>alert" not in page and 'href="javascript:' not in page
    assert "{{7*7}}" in page and ">49<" not in page


@pytest.mark.parametrize(
    "path",
    ["/?cursor=-1", "/?cursor=abc", f"/?cursor={10**30}", "/?state=nope", "/?repo=../..", "/?repo=a/b&workflow=%00",
     "/?workflow=" + "x" * 3000, "/runs/absent-run-1", "/runs/1;.css", "/runs/%2e%2e", "/artifacts/0", "/artifacts/abc",
     f"/artifacts/{10**30}", "/artifacts/1/files/", "/tags?repo=absent/x", "/runs/absent-run-1/log/stream"],
)  # fmt: skip
def test_odd_addresses_are_pages_too(api: Api, cookies: dict[str, str], path: str) -> None:
    """B90."""
    answer = get(api, cookies, path)
    assert answer.status_code in (200, 400, 404), answer.status_code
    assert answer.headers["content-type"].startswith("text/html")


@pytest.mark.parametrize("query", ["attempt=", "attempt=absent", "attempt=%00", "attempt=x&line=-1", "before=abc"])
def test_another_runs_attempt_is_absent(api: Api, cookies: dict[str, str], held: Held, query: str) -> None:
    """B89: page, raw log and stream."""
    other = api.attempt()
    other.log(b"not of this run\n")
    for door in ("log", "log/raw", "log/stream"):
        answer = get(api, cookies, f"/runs/{held.run}/{door}?attempt={other.attempt}")
        assert answer.status_code == 404 and "not of this run" not in answer.text
        assert get(api, cookies, f"/runs/{held.run}/{door}?{query}", stream=True).status_code in (200, 400, 404)


def test_a_finished_log_streams_to_its_end(api: Api, cookies: dict[str, str], held: Held) -> None:
    answer = get(api, cookies, f"/runs/{held.run}/log/stream?attempt={held.attempt}")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert "one" in answer.text and "two" in answer.text


def press(api: Api, cookies: dict[str, str], path: str, **fields: str) -> requests.Response:
    found = re.search(r'name="csrf" value="(\w+)"', get(api, cookies, "/").text)
    assert found
    return api.call("POST", path, None, cookies=cookies, data={"csrf": found.group(1), **fields})


def test_the_buttons_stop_and_restart(api: Api, cookies: dict[str, str]) -> None:
    run = api.run()
    assert press(api, cookies, f"/runs/{run}/stop").status_code == 303
    assert api.get_run(run)["state"] == "stopped"
    again = press(api, cookies, f"/runs/{run}/stop")
    assert again.status_code in (303, 409)
    made = press(api, cookies, f"/runs/{run}/restart")
    assert made.status_code == 303
    new = made.headers["location"].rpartition("/")[2]
    assert api.get_run(new)["restarted_from"] == run
    assert press(api, cookies, "/runs/absent-run-1/stop").status_code == 404


def test_a_badge_tells_strangers_nothing(api: Api, cookies: dict[str, str], held: Held) -> None:
    path = "/badge/local/shared.svg?workflow=paged&branch=main"
    known, stranger = get(api, cookies, path), api.call("GET", path, None)
    absent = api.call("GET", "/badge/local/absent.svg?workflow=paged&branch=main", None)
    assert {known.status_code, stranger.status_code, absent.status_code} == {200}
    assert "succeeded" in known.text or "passing" in known.text
    assert stranger.text == absent.text
