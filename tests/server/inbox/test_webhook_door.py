"""The door for webhooks: what is taken, what is refused, and that nothing refused leaves a trace."""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
import requests
from joined_github import REPO, Joined, joined, workflows
from served_api import serve

from dstack.server.models.delivery import DeliveryState
from dstack.server.store.deliveries import forget_payloads
from dstack.server.web import webhook
from dstack.server.web.webhook import MAX_BYTES, PATH

PING = json.dumps({"zen": "Keep it logically awesome.", "hook_id": 1}).encode()


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Joined]:
    with joined(tmp_path_factory.mktemp("door"), workflows(train="push"), github_webhook_secret="old, new") as scene:
        yield scene


def sign(body: bytes, secret: str = "new") -> str:
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def send(scene: Joined, body: bytes = PING, *, event: str = "ping", **headers: str | None) -> requests.Response:
    given: dict[str, str | None] = {
        "Content-Type": "application/json",
        "X-GitHub-Event": event,
        "X-GitHub-Delivery": str(uuid.uuid4()),
        "X-Hub-Signature-256": sign(body),
    }
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    return scene.api.call("POST", PATH, None, data=body, headers={k: v for k, v in given.items() if v is not None})


def test_a_signed_webhook_is_stored_byte_for_byte(scene: Joined) -> None:
    body = b'{"zen":  "spaces stay",\n "hook_id": 7, "unknown": {"fields": [1, 2]}}'
    guid = str(uuid.uuid4())
    answer = send(scene, body, X_GitHub_Delivery=guid)
    assert answer.status_code == 202 and answer.json()["state"] == "received"
    scene.settle()
    row = scene.last("ping")
    assert (row.id, row.guid, row.payload, row.kind) == (answer.json()["delivery"], guid, body, "github")
    assert row.digest == hashlib.sha256(body).hexdigest()
    assert row.state is DeliveryState.PROCESSED


def test_both_secrets_count_while_one_is_being_rotated(scene: Joined) -> None:
    assert send(scene, X_Hub_Signature_256=sign(PING, "old")).status_code == 202
    assert send(scene, X_Hub_Signature_256=sign(PING, "new")).status_code == 202
    assert send(scene, X_Hub_Signature_256=sign(PING, "other")).status_code == 401


RIGHT = sign(PING)
SHA1 = "sha1=" + hmac.new(b"new", PING, hashlib.sha1).hexdigest()


@pytest.mark.parametrize(
    "headers",
    [
        {"X_Hub_Signature_256": None},
        {"X_Hub_Signature_256": sign(PING, "wrong")},
        {"X_Hub_Signature_256": None, "X_Hub_Signature": SHA1},
        {"X_Hub_Signature_256": SHA1},
        {"X_Hub_Signature_256": RIGHT.upper()},
        {"X_Hub_Signature_256": "sha256=" + RIGHT[7:].upper()},
        {"X_Hub_Signature_256": "sha256= " + RIGHT[7:]},
        {"X_Hub_Signature_256": RIGHT[:-1]},
        {"X_Hub_Signature_256": RIGHT + "0"},
        {"X_Hub_Signature_256": RIGHT[7:]},
        {"X_Hub_Signature_256": "sha256=" + "é" * 64},
        {"X_Hub_Signature_256": ""},
    ],
    ids=lambda h: str(h)[:60],
)
def test_what_is_not_rightly_signed_is_refused_alike(scene: Joined, headers: dict[str, Any]) -> None:
    before = len(scene.deliveries())
    if headers.get("X_Hub_Signature_256") and not headers["X_Hub_Signature_256"].isascii():
        headers = {"X_Hub_Signature_256": headers["X_Hub_Signature_256"].encode()}
    answer = send(scene, **headers)
    problem = answer.json()
    assert answer.status_code == 401 and problem["error"] == "not_signed_in"
    assert problem["message"] == "the webhook is not signed with this server's secret"
    assert len(scene.deliveries()) == before


def test_the_body_counts_not_what_it_says(scene: Joined) -> None:
    assert send(scene, PING + b" ", X_Hub_Signature_256=RIGHT).status_code == 401


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[]", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b'"text"', "not a JSON object"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"hook": ' + b"[" * 100_000, "nested too deeply"),
        (b'{"hook_id": ' + b"9" * 5000 + b"}", "not JSON"),
        (rb'{"action": "\ud800"}', "text that can be stored"),
        (rb'{"sender": {"login": "a\u0000b"}}', "text that can be stored"),
        (b'{"action": 5}', "action of the event is not text"),
        (b'{"installation": {"id": "x"}}', "installation.id of the event is not a whole number"),
        (b'{"repository": []}', "repository of the event is not an object"),
        (b'{"installation": {"id": 99999999999999999999}}', "not a whole number"),
    ],
    ids=lambda v: str(v)[:40],
)
def test_what_cannot_be_read_is_refused(scene: Joined, body: bytes, said: str) -> None:
    before = len(scene.deliveries())
    answer = send(scene, body)
    assert answer.status_code == 400 and said in answer.json()["message"], answer.text
    assert set(answer.json()) == {"error", "message", "hint", "request_id"}
    assert len(scene.deliveries()) == before


def test_a_form_is_refused_with_the_setting_to_change(scene: Joined) -> None:
    answer = send(scene, b"payload=%7B%7D", Content_Type="application/x-www-form-urlencoded")
    assert answer.status_code == 415
    assert answer.json()["hint"] == "Set the App's webhook content type to application/json."
    assert send(scene, Content_Type="application/json; charset=utf-8").status_code == 202


@pytest.mark.parametrize("guid", [None, "", "a b", "push:1", "x" * 101, "a/b"])
def test_a_webhook_without_an_id_is_refused(scene: Joined, guid: str | None) -> None:
    assert send(scene, X_GitHub_Delivery=guid).status_code == 400


@pytest.mark.parametrize("event", ["", "a b", "é", "x" * 101, "push.opened", "../x"])
def test_the_name_of_an_event_is_a_word(scene: Joined, event: str) -> None:
    answer = send(scene, event=event.encode() if not event.isascii() else event)  # type: ignore[arg-type]
    assert answer.status_code == 400


def test_the_same_again_is_a_duplicate_and_another_body_a_conflict(scene: Joined) -> None:
    guid = str(uuid.uuid4())
    first = send(scene, X_GitHub_Delivery=guid).json()
    again = send(scene, X_GitHub_Delivery=guid)
    assert again.status_code == 202 and again.json() == {"delivery": first["delivery"], "state": "duplicate"}
    other = send(scene, b'{"zen": "another"}', X_GitHub_Delivery=guid)
    assert other.status_code == 409 and other.json()["error"] == "conflict"
    assert [row.payload for row in scene.deliveries("ping") if row.guid == guid] == [PING]


@pytest.mark.parametrize(
    ("event", "body", "why"),
    [
        ("star", {"action": "created"}, "nothing here waits for star"),
        ("pull_request", {"action": "labeled"}, "nothing here waits for pull_request.labeled"),
        ("create", {"ref": "v1", "ref_type": "tag"}, "the push says it too"),
        ("delete", {"ref": "v1", "ref_type": "tag"}, "the push says it too"),
        ("issue_comment", {"action": "edited"}, "nothing here waits for issue_comment.edited"),
        ("check_run", {"action": "created"}, "nothing here waits for check_run.created"),
    ],
)
def test_what_nothing_comes_of_is_kept_with_the_reason(
    scene: Joined, event: str, body: dict[str, Any], why: str
) -> None:
    """Also where the rest of the body is not what we would read of an event that counts."""
    answer = send(scene, json.dumps(body).encode(), event=event)
    assert answer.status_code == 202 and answer.json()["state"] == "ignored", answer.text
    row = next(row for row in scene.deliveries() if row.id == answer.json()["delivery"])
    assert row.state is DeliveryState.IGNORED and row.reason == why and row.payload


def test_what_we_did_ourselves_starts_nothing(scene: Joined) -> None:
    body = {"ref": "refs/heads/main", "before": "0" * 40, "after": "1" * 40}
    body |= {"sender": {"login": f"{scene.app.slug}[bot]", "type": "Bot"}}  # type: ignore[dict-item]
    slug_known = scene.api.wiring.forge.slug
    answer = send(scene, json.dumps(body).encode(), event="push").json()
    assert slug_known == scene.app.slug
    assert answer["state"] == "ignored"
    row = next(row for row in scene.deliveries() if row.id == answer["delivery"])
    assert row.reason == "we did this ourselves"


@pytest.mark.parametrize("length", [str(MAX_BYTES + 1), "9" * 15])
def test_a_body_that_says_it_is_too_long_is_refused_unread(scene: Joined, length: str) -> None:
    status, _ = _raw(scene, [f"Content-Length: {length}"], [])
    assert status == 413


def test_a_body_without_end_is_refused_at_the_limit(scene: Joined) -> None:
    piece = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    before = psutil.Process().memory_info().rss
    status, _ = _raw(scene, ["Transfer-Encoding: chunked"], [piece] * (MAX_BYTES // 65536 + 8))
    assert status == 413
    assert psutil.Process().memory_info().rss - before < 2 * MAX_BYTES


def test_a_body_that_creeps_is_given_up(scene: Joined, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "BODY_S", 0.3)
    began = time.monotonic()
    status, text = _raw(scene, ["Transfer-Encoding: chunked"], [b"1\r\n{\r\n"], linger=True)
    assert status == 408 and "did not come in within" in text and time.monotonic() - began < 5
    assert send(scene).status_code == 202


def test_bodies_on_their_way_in_hold_a_bounded_memory(scene: Joined, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "_HELD_BYTES", 10)
    answer = send(scene)
    assert answer.status_code == 429 and answer.headers["Retry-After"] == "1"


def test_bodies_that_are_announced_and_never_come_keep_nobody_out(scene: Joined) -> None:
    address = urlsplit(scene.api.url)
    head = [f"POST {PATH} HTTP/1.1", "Host: x", "Content-Type: application/json", f"X-Hub-Signature-256: {RIGHT}"]
    with ExitStack() as plugs:
        for _ in range(8):
            plug = socket.create_connection((address.hostname or "", address.port or 0), timeout=20)
            plugs.enter_context(plug).sendall("\r\n".join([*head, f"Content-Length: {MAX_BYTES}", "", "{"]).encode())
        until_s = time.monotonic() + 1  # the door has seen them by then
        while time.monotonic() < until_s:
            assert send(scene).status_code == 202


def test_large_bodies_leave_room_for_small_ones(scene: Joined, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "_HELD_BY_LARGE", 10)
    assert send(scene, PING + b" " * webhook._SMALL).status_code == 429
    assert send(scene).status_code == 202


def _raw(scene: Joined, headers: list[str], pieces: list[bytes], linger: bool = False) -> tuple[int, str]:
    """Status and text of the answer to a request written by hand."""
    address = urlsplit(scene.api.url)
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=20) as plug:
        lines = [f"POST {PATH} HTTP/1.1", "Host: x", "Content-Type: application/json", f"X-Hub-Signature-256: {RIGHT}"]
        plug.sendall("\r\n".join([*lines, *headers, "", ""]).encode())
        try:
            for piece in pieces:
                plug.sendall(piece)
        except OSError:
            pass  # it has answered and closed
        answer = plug.recv(65536).decode()
        while linger and "}" not in answer:
            answer += plug.recv(65536).decode()
    return int(answer.split()[1]), answer


def test_without_an_app_it_says_what_to_do(tmp_path_factory: pytest.TempPathFactory) -> None:
    with serve(tmp_path_factory.mktemp("none")) as api:
        answer = api.call("POST", PATH, None, json={})
        assert answer.status_code == 503 and "dstack github connect" in answer.json()["hint"]


def test_a_burst_loses_and_doubles_nothing(scene: Joined) -> None:
    before = len(scene.deliveries())

    def one(number: int) -> tuple[int, str]:
        with requests.Session() as http:
            body = json.dumps({"zen": str(number)}).encode()
            headers = {
                "Content-Type": "application/json", "X-GitHub-Event": "ping", "X-Hub-Signature-256": sign(body),
                "X-GitHub-Delivery": f"burst-{number // 2}",
            }  # fmt: skip
            body = json.dumps({"zen": str(number // 2)}).encode()
            headers["X-Hub-Signature-256"] = sign(body)
            answer = http.post(scene.api.url + PATH, data=body, headers=headers, timeout=30)
            return answer.status_code, answer.json()["state"]

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(one, range(400)))
    assert {status for status, _ in answers} == {202}
    assert sorted(state for _, state in answers) == ["duplicate"] * 200 + ["received"] * 200
    scene.settle()
    assert len(scene.deliveries()) == before + 200


def test_a_push_signed_by_github_itself_arrives(scene: Joined) -> None:
    scene.app.webhook_secret = "old"
    sha = scene.fake.push(REPO, "main", {"a": "1"})
    scene.settle()
    assert [run.workflow for run in scene.runs(sha)] == ["train"]


def test_what_was_ignored_long_ago_keeps_its_line_only(scene: Joined) -> None:
    scene.app.webhook_secret = "new"
    scene.fake.send_raw("ping", {"zen": "x"})
    scene.fake.send_raw("star", {"action": "created"})
    scene.settle()
    before = len(scene.deliveries())
    now = scene.api.clock.now()
    forget = scene.api.wiring.db.write
    assert forget(lambda s: forget_payloads(s, now - 86_400)) == 0
    assert forget(lambda s: forget_payloads(s, now + 1)) >= 1
    assert len(scene.deliveries()) == before
    ignored = scene.last("star.created")
    assert ignored.payload is None
    answer = scene.api.call("POST", f"/api/v1/deliveries/{ignored.id}/replay")
    assert answer.status_code == 409 and "kept for a day" in answer.text
