"""Addresses, redirects, retries, refusals and tokens: the client's decisions, by tables."""

from __future__ import annotations

import json

import pytest

from dstack.cli.config_file import SignIns
from dstack.cli.connection import choose_target
from dstack.cli.credential import token_for
from dstack.client.address import parse_address, proxy_for, redirect_target
from dstack.client.refusal import plain, read_refusal
from dstack.client.retry import delay_before_retry, may_repeat
from dstack.errors import (
    Conflict,
    DstackError,
    Invalid,
    NotAllowed,
    NotFound,
    NotSignedIn,
    TooMany,
    Unavailable,
    Unreachable,
)


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("http://127.0.0.1:3000/", "http://127.0.0.1:3000"),
        ("HTTPS://Example.org:443/dstack/", "https://example.org/dstack"),
        ("http://[::1]:3000", "http://[::1]:3000"),
        (" http://a ", "http://a"),
    ],
)
def test_addresses(url: str, normal: str) -> None:
    assert parse_address(url).url == normal


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.org",
        "ftp://a",
        "http://",
        "http://a:b",
        "http://a:99999",
        "http://u:secret@a",
        "http://a/?q",
        "http://a b",
        "http://[::1",
        "http://a/#f",
        "javascript:alert(1)",
    ],
)
def test_bad_addresses_say_what_to_type(url: str) -> None:
    with pytest.raises(Unreachable) as caught:
        parse_address(url)
    assert "dstack config set server" in caught.value.hint and "secret" not in caught.value.message


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/x/other?a=b", "/other?a=b"),
        ("https://example.org/x/other", "/other"),
        ("https://example.org:443/x/other", "/other"),
        ("https://evil.org/x/other", None),
        ("//evil.org/x", None),
        ("http://example.org/x/other", None),
        ("https://example.org:8443/x/other", None),
        ("/elsewhere", None),
        ("https://example.org.evil.org/x", None),
        ("http://[", None),
    ],
)
def test_redirects_stay_on_the_server(location: str, target: str | None) -> None:
    assert redirect_target(parse_address("https://example.org/x"), "/api", location) == target


@pytest.mark.parametrize(
    ("url", "env", "proxy"),
    [
        ("https://a.org", {"https_proxy": "http://p:8080"}, ("p", 8080, None, "")),
        ("https://a.org", {"HTTPS_PROXY": "http://u:p%40@p"}, ("p", 80, "u", "p@")),
        ("http://a.org", {"HTTP_PROXY": "http://p"}, None),
        ("http://a.org", {"http_proxy": "p:1"}, ("p", 1, None, "")),
        ("http://127.0.0.1:3", {"http_proxy": "p:1"}, None),
        ("http://x.a.org", {"http_proxy": "p:1", "no_proxy": "b, .a.org"}, None),
        ("http://a.org", {"all_proxy": "p:1", "NO_PROXY": "*"}, None),
    ],
)
def test_proxies(url: str, env: dict[str, str], proxy: tuple[object, ...] | None) -> None:
    assert proxy_for(parse_address(url), env) == proxy


@pytest.mark.parametrize(
    ("method", "keyed", "may"),
    [("GET", False, True), ("POST", False, False), ("POST", True, True), ("DELETE", False, True)],
)
def test_what_may_be_repeated(method: str, keyed: bool, may: bool) -> None:
    assert may_repeat(method, keyed=keyed) is may


@pytest.mark.parametrize(
    ("tries", "status", "refused", "met", "retry_after", "delay"),
    [
        (1, None, False, False, None, 0.2),
        (2, 503, False, True, None, 0.4),
        (1, 429, False, True, "7", 7.0),
        (1, 503, False, True, "999", None),
        (1, 503, False, True, "Wed, 21 Oct", 0.2),
        (1, 404, False, True, None, None),
        (1, 500, False, True, None, None),
        (3, None, True, False, None, None),
        (5, 502, False, True, None, None),
        (3, None, True, True, None, 0.8),  # met a moment ago: it is being restarted
        (10, None, True, True, None, None),
    ],
)
def test_delays(
    tries: int, status: int | None, refused: bool, met: bool, retry_after: str | None, delay: float | None
) -> None:
    found = delay_before_retry(tries, status=status, refused=refused, met=met, retry_after=retry_after, jitter=1.0)
    assert found == (None if delay is None else pytest.approx(delay))


@pytest.mark.parametrize(
    ("status", "body", "kind", "message"),
    [
        (404, {"error": "not_found", "message": "no run x", "hint": "h"}, NotFound, "no run x"),
        (401, {"error": "not_signed_in", "message": "expired"}, NotSignedIn, "expired"),
        (422, {"error": "invalid", "message": "\x1b]0;x\x07bad\x1b[31m \u202etxt"}, Invalid, "bad txt"),
        (409, {"error": "of the future", "message": "m"}, Conflict, "m"),
        (503, {"error": "unavailable", "message": "disk full"}, Unavailable, "disk full"),
        (403, b"<html>", NotAllowed, "http://s answered 403 (Forbidden) and did not say why"),
        (502, b"", Unreachable, "http://s answered 502 (Bad Gateway) and did not say why"),
        (599, b"[]", DstackError, "http://s answered 599 (an unknown status) and did not say why"),
    ],
)
def test_refusals(status: int, body: object, kind: type[DstackError], message: str) -> None:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    error = read_refusal(status, raw, None, "http://s")
    assert type(error) is kind and error.message == message


def test_a_special_case_of_some_room_is_not_what_a_server_means() -> None:
    class OfSomeRoom(Invalid):
        pass

    error = read_refusal(422, b'{"error": "invalid", "message": "m"}', None, "http://s")
    assert type(error) is Invalid and OfSomeRoom.code == Invalid.code


def test_a_refusal_for_haste_carries_its_wait() -> None:
    error = read_refusal(429, b'{"error": "too_many", "message": "slow"}', 7.0, "http://s")
    assert isinstance(error, TooMany) and error.retry_after == 7


def test_plain_keeps_lines_and_letters() -> None:
    assert plain("a\tb\né\x00\x9b31mx\x1b(Bz") == "a\tb\néxz"


STORED = SignIns("https://team.org", {"https://team.org": "team", "http://127.0.0.1:3000": "mine"})


@pytest.mark.parametrize(
    ("server", "env", "chosen"),
    [
        (None, {}, ("https://team.org", "team", "file", "file")),
        ("http://localhost:3000", {}, ("http://localhost:3000", "mine", "--server", "file")),
        (None, {"DSTACK_SERVER": "http://evil.org"}, ("http://evil.org", "", "DSTACK_SERVER", "")),
        (None, {"DSTACK_SERVER": "http://b", "DSTACK_TOKEN": "t"}, ("http://b", "t", "DSTACK_SERVER", "DSTACK_TOKEN")),
        (None, {"DSTACK_TOKEN": "t"}, ("https://team.org", "t", "file", "DSTACK_TOKEN")),
        ("http://c", {"DSTACK_SERVER": "http://b"}, ("http://c", "", "--server", "")),
    ],
)
def test_a_stored_token_goes_to_its_own_server_alone(
    server: str | None, env: dict[str, str], chosen: tuple[str, ...]
) -> None:
    assert choose_target(server, None, env, STORED, "file") == chosen


@pytest.mark.parametrize(
    ("asked", "env", "token"),
    [
        ({"protocol": "https", "host": "team.org"}, {}, "team"),
        ({"protocol": "http", "host": "127.0.0.1:3000"}, {}, "mine"),
        ({"protocol": "https", "host": "evil.org"}, {"DSTACK_TOKEN": "t"}, ""),
        ({"protocol": "https", "host": "team.org"}, {"DSTACK_TOKEN": "t"}, "t"),
        ({"protocol": "https", "host": "team.org"}, {"DSTACK_TOKEN": "t", "DSTACK_SERVER": "http://b"}, "team"),
        ({}, {}, ""),
    ],
)
def test_git_gets_the_password_of_the_host_it_asks_about(
    asked: dict[str, str], env: dict[str, str], token: str
) -> None:
    assert token_for(asked, env, STORED) == token
