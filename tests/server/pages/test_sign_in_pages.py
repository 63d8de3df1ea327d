"""The way in and out: a token, a printed link, and no way to anywhere else."""

from __future__ import annotations

import pytest
import requests
from pages_fakes import COOKIE, CSRF, TOKEN


def post(site, form: dict[str, str], **headers: str) -> requests.Response:
    return requests.post(site.url + "/sign-in", data=form, headers=headers, timeout=10, allow_redirects=False)


@pytest.mark.parametrize(
    ("path", "onward"),
    [
        ("/", "/sign-in"),
        ("/tags", "/sign-in?next=/tags"),
        ("/runs/x?attempt=1", "/sign-in?next=/runs/x%3Fattempt%3D1"),
        ("/runs/x/log/stream?attempt=1", "/sign-in?next=/runs/x/log/stream%3Fattempt%3D1"),
        ("/artifacts/a/files/x", "/sign-in?next=/artifacts/a/files/x"),
    ],
)
def test_who_is_not_signed_in_is_asked_to_first(site, path: str, onward: str) -> None:
    answer = site.anonymous(path)
    assert (answer.status_code, answer.headers["location"]) == (303, onward)


def test_a_token_signs_in_and_leads_back(site) -> None:
    answer = post(site, {"token": f" {TOKEN} ", "next": "/runs/x?attempt=1"}, origin=site.url)
    assert (answer.status_code, answer.headers["location"]) == (303, "/runs/x?attempt=1")
    cookie = answer.headers["set-cookie"].lower()
    assert cookie.startswith(COOKIE) and "httponly" in cookie and "samesite=lax" in cookie and "path=/" in cookie


def test_a_wrong_token_says_so_and_is_not_repeated(site) -> None:
    answer = post(site, {"token": "dst_wrong<b>", "next": "/tags"})
    assert answer.status_code == 401
    assert "This token or link is not known here." in answer.text and "dst_wrong" not in answer.text
    assert 'name="next" value="/tags"' in answer.text
    assert "set-cookie" not in answer.headers


def test_the_printed_link_signs_in_once_and_leaves_the_address(site) -> None:
    answer = site.anonymous("/sign-in?code=once")
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert COOKIE in answer.cookies
    assert answer.headers["cache-control"] == "no-store"
    assert site.anonymous("/sign-in?code=once").status_code == 401


@pytest.mark.parametrize(
    "target", ["//evil", "/\\evil", "https://evil", "/\t/evil", "javascript:alert(1)", "/sign-out"]
)
def test_a_sign_in_leads_nowhere_else(site, target: str) -> None:
    assert post(site, {"token": TOKEN, "next": target}).headers["location"] == "/"
    assert 'name="next" value="/"' in site.anonymous("/sign-in", params={"next": target}).text


@pytest.mark.parametrize(
    "headers", [{"origin": "https://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "same-site"}]
)
def test_another_site_cannot_sign_someone_in(site, headers: dict[str, str]) -> None:
    answer = post(site, {"token": TOKEN}, **headers)
    assert answer.status_code == 403 and "set-cookie" not in answer.headers


def test_signing_out_deletes_the_cookie_and_takes_a_form(site) -> None:
    assert site.get("/sign-out").status_code == 405
    assert site.post("/sign-out", {"csrf": "wrong"}).status_code == 403
    answer = site.post("/sign-out", {"csrf": CSRF})
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in")
    assert f'{COOKIE}=""' in answer.headers["set-cookie"] and "Max-Age=0" in answer.headers["set-cookie"]
