"""What a runner sends of an attempt: log bytes, metrics, artifacts, its end; and every way to send it wrongly."""

from __future__ import annotations

import json
import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psutil
import pytest
from served_api import Api, Held, manifest_of, sha256, wait_for
from sqlmodel import col, select

from dstack.errors import TooMany
from dstack.server.models import Attempt, Metric
from dstack.server.models.token import TokenKind
from dstack.server.services.hold_lease import lose_attempt
from dstack.server.web.access import Pace
from dstack.server.web.content import PIECE
from dstack.wire.job import Command, Job
from dstack.wire.manifest import FileEntry, Manifest
from dstack.wire.runner import LEASE_HEADER, MAX_LOG_BYTES, MAX_LOG_CHUNK, PROTOCOL


@pytest.fixture
def held(api: Api) -> Held:
    held = api.attempt()
    held.state("running")
    return held


_SHARED: dict[str, Held] = {}


@pytest.fixture
def shared(api: Api) -> Held:
    """An attempt that runs and that nothing is changed of: all is refused that is sent to it."""
    held = _SHARED.get(api.url)
    if held is None or held.call("POST", "state", json={"state": "running"}).status_code != 204:  # its lease ran out
        held = _SHARED[api.url] = api.attempt()
        held.state("running")
    return held


def log_of(api: Api, held: Held) -> bytes:
    return api.call("GET", f"/api/v1/runs/{held.run}/log").content


def refused(answer: Any, status: int, error: str = "") -> dict[str, Any]:
    assert answer.status_code == status, (answer.status_code, answer.text)
    problem = answer.json()
    assert set(problem) >= {"error", "message", "hint", "request_id"} and "Traceback" not in answer.text
    assert not error or problem["error"] == error
    return problem


# Log


def test_a_log_is_appended_by_offset(api: Api, held: Held) -> None:
    """B65."""
    assert held.ok("PUT", "log?offset=0", data=b"one\n") == {"size": 4}
    assert held.ok("PUT", "log?offset=4", data=b"two\n") == {"size": 8}
    gap = refused(held.call("PUT", "log?offset=9", data=b"late"), 409, "offset_mismatch")
    assert gap["expected"] == 8
    assert held.ok("PUT", "log?offset=0", data=b"one\n") == {"size": 8}
    assert held.ok("PUT", "log?offset=4", data=b"two\nthree\n") == {"size": 14}
    refused(held.call("PUT", "log?offset=4", data=b"TWO\n"), 409, "conflict")
    assert log_of(api, held) == b"one\ntwo\nthree\n"


@pytest.mark.parametrize("end", ["finish", "lease"])
def test_a_body_under_way_adds_nothing_after_the_end(api: Api, held: Held, end: str) -> None:
    """Else the offsets of all that follows in the run's log would move."""
    piece = b"x" * (1024 * 1024 - 1) + b"\n"
    host, _, port = api.url.removeprefix("http://").partition(":")
    head = (
        f"PUT /api/v1/attempts/{held.attempt}/log?offset=0 HTTP/1.1\r\nHost: {host}\r\nContent-Length: {2 * len(piece)}"
        f"\r\nAuthorization: Bearer {held.runner.token}\r\n{LEASE_HEADER}: {held.lease}\r\n\r\n"
    )
    logs = api.wiring.logs
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(head.encode() + piece)
        wait_for(lambda: logs.size(held.attempt) > len(piece) - PIECE)  # the rest waits for more
        if end == "finish":
            assert held.finish("failed", reason="exit_code", exit_code=1).status_code == 204
        else:
            api.wiring.db.write(lambda s: lose_attempt(s, s.get_one(Attempt, held.attempt), api.clock.now()))
        kept = logs.size(held.attempt)
        connection.sendall(piece)
        answer = connection.recv(4096)
    assert b" 409 " in answer.splitlines()[0]
    assert logs.size(held.attempt) == kept


@pytest.mark.parametrize("offset", ["", "-1", "abc", "1.5", "0x1", "\uff19", "9" * 30, "1e3", " 1"])
def test_an_unreadable_offset_is_malformed(shared: Held, offset: str) -> None:
    refused(shared.call("PUT", "log", params={"offset": offset}, data=b"x"), 400, "malformed")


def test_a_log_has_an_end(shared: Held) -> None:
    refused(shared.call("PUT", f"log?offset={MAX_LOG_BYTES - 1}", data=b"xx"), 413, "too_large")


def test_bytes_of_a_log_stay_what_they_were(api: Api, held: Held) -> None:
    data = b"\xff\x00\r\n\x1b]8;;http://evil\x07<script>" + bytes(range(256))
    held.log(data)
    answer = api.call("GET", f"/api/v1/runs/{held.run}/log?offset=4")
    assert answer.content == data[4:]
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert api.call("GET", f"/api/v1/runs/{held.run}/log?offset=1000000").content == b""


def announce(api: Api, held: Held, path: str, extra: str, body: bytes = b"") -> bytes:
    """The status line for a request whose headers say what a proper client would not."""
    address = ("127.0.0.1", api.wiring.settings.port)
    with socket.create_connection(address, timeout=10) as connection:
        head = (
            f"PUT /api/v1/attempts/{held.attempt}/{path} HTTP/1.1\r\nHost: x\r\n"
            f"Authorization: Bearer {held.runner.token}\r\n{LEASE_HEADER}: {held.lease}\r\n{extra}\r\n\r\n"
        )
        connection.sendall(head.encode() + body)
        return connection.recv(4096).split(b"\r\n")[0]


def test_an_oversized_chunk_is_refused_before_it_is_read(api: Api, held: Held) -> None:
    """B66: the answer comes although not one byte of the body was sent, and memory does not grow."""
    before = psutil.Process(os.getpid()).memory_info().rss
    for length in (MAX_LOG_CHUNK + 1, 2**40, 10**14):
        assert b" 413 " in announce(api, held, "log?offset=0", f"Content-Length: {length}")
    big = b"x" * (MAX_LOG_CHUNK + 1)
    grown = psutil.Process(os.getpid()).memory_info().rss - before
    assert grown < 32 << 20
    assert held.call("PUT", "log?offset=0", data=big[:-1]).status_code == 200


@pytest.mark.parametrize("path", ["log?offset=0", "packs", f"blobs/{'a' * 64}"])
def test_a_body_without_a_length_or_compressed_is_refused(api: Api, held: Held, path: str) -> None:
    """B71: what a compressed body grows to is not known before."""
    assert b" 400 " in announce(api, held, path, "Transfer-Encoding: chunked", b"1\r\nx\r\n0\r\n\r\n")
    for encoding in ("gzip", "br", "identity, gzip"):
        assert b" 413 " in announce(api, held, path, f"Content-Encoding: {encoding}\r\nContent-Length: 1", b"x")


def test_a_json_body_is_bounded(api: Api, held: Held) -> None:
    assert b" 413 " in announce(api, held, "log?offset=0", f"Content-Length: {MAX_LOG_CHUNK + 1}")
    big = b'{"state": "running", "step": "' + b"x" * (1 << 20) + b'"}'
    refused(held.call("POST", "state", data=big), 413, "too_large")
    refused(held.call("POST", "state", data=(part for part in (big, big))), 413, "too_large")  # sent in chunks
    gzipped = held.call("POST", "state", data=b"x", headers={"Content-Encoding": "gzip"})
    refused(gzipped, 413, "too_large")


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b"1", b'"x"', b"\xff", b"[" * 100_000, b'{"state": "\\ud800"}', b'{"state": 5}',
     b'{"state": "nonsense"}', b'{"state": "running", "step": 5}', b'{"offset": ' + b"9" * 5000 + b"}"],
)  # fmt: skip
@pytest.mark.parametrize("verb", ["state", "metrics", "finish", "artifacts", "blobs/missing"])
def test_unreadable_bodies_are_refused(shared: Held, verb: str, body: bytes) -> None:
    """B8."""
    answer = shared.call("POST", verb, data=body)
    assert refused(answer, answer.status_code)["error"] in ("malformed", "invalid")


# Metrics


def points(*values: object, step: int | None = 0) -> list[dict[str, object]]:
    return [{"name": "loss", "value": value, "step": step} for value in values]


def stored_metrics(api: Api, held: Held) -> list[tuple[int, float]]:
    query = select(Metric).where(Metric.attempt_id == held.attempt).order_by(col(Metric.position))
    return [(m.position, m.value) for m in api.wiring.db.read(lambda s: s.exec(query).all())]


def test_metric_points_are_stored_once(api: Api, held: Held) -> None:
    held.ok("POST", "metrics", json={"offset": 0, "points": points(1.0, 2.0)})
    held.ok("POST", "metrics", json={"offset": 0, "points": points(1.0, 2.0)})
    held.ok("POST", "metrics", json={"offset": 1, "points": points(2.0, 3.0)})
    problem = refused(held.call("POST", "metrics", json={"offset": 4, "points": points(9.0)}), 422)
    assert "3 to 3" in problem["message"]
    assert stored_metrics(api, held) == [(0, 1.0), (1, 2.0), (2, 3.0)]


def test_the_same_points_sent_at_once_are_stored_once(api: Api, held: Held) -> None:
    with ThreadPoolExecutor(4) as pool:
        send = lambda _: held.call("POST", "metrics", json={"offset": 0, "points": points(1.0, 2.0)})  # noqa: E731
        assert {a.status_code for a in pool.map(send, range(8))} == {204}
    assert stored_metrics(api, held) == [(0, 1.0), (1, 2.0)]


def test_points_that_are_no_numbers_keep_their_place(api: Api, held: Held) -> None:
    body = '{"offset": 0, "points": [{"name": "loss", "value": NaN}, {"name": "loss", "value": Infinity}, {"name": "loss", "value": 1.5}]}'  # noqa: E501
    held.ok("POST", "metrics", data=body)
    assert stored_metrics(api, held) == [(2, 1.5)]
    held.ok("POST", "metrics", json={"offset": 3, "points": points(2.5)})
    assert stored_metrics(api, held) == [(2, 1.5), (3, 2.5)]


@pytest.mark.parametrize(
    "odd",
    [{"step": 2**63}, {"step": -(2**70)}, {"name": ""}, {"name": "a\0b"}, {"name": "a\nb"}, {"value": 1e308 * 10}],
    ids=str,
)
def test_points_a_job_wrote_oddly_are_left_out_alone(api: Api, held: Held, odd: dict[str, Any]) -> None:
    """They are the job's words: they must not hold up the points beside them."""
    body = json.dumps({"offset": 0, "points": [*points(1.0), points(2.0)[0] | odd, *points(3.0)]})
    held.ok("POST", "metrics", data=body)
    assert stored_metrics(api, held) == [(0, 1.0), (2, 3.0)]


@pytest.mark.parametrize(
    "report",
    [
        {"offset": -1, "points": points(1.0)},
        {"offset": 2**70, "points": points(1.0)},
        {"offset": 0, "points": [{"name": "loss", "value": "much"}]},
        {"offset": 0, "points": [{"name": "loss"}]},
    ],
    ids=str,
)
def test_impossible_points_are_refused_whole(api: Api, shared: Held, report: dict[str, Any]) -> None:
    refused(shared.call("POST", "metrics", json=report), 422, "invalid")
    assert stored_metrics(api, shared) == []


def test_times_of_a_runner_are_its_own_affair(api: Api, held: Held) -> None:
    """B67: the server's clock says when things were; a point may carry any finite time, or none."""
    for number, at in enumerate(["0", "-1e9", "1e300", "NaN", "Infinity", "null"]):
        body = f'{{"offset": {number}, "points": [{{"name": "loss", "value": 1, "step": {number}, "at": {at}}}]}}'
        assert held.call("POST", "metrics", data=body).status_code == 204, at
    page = api.call("GET", f"/runs/{held.run}", None, cookies={"dstack_session": session(api)})
    assert page.status_code == 200
    started = api.get_run(held.run)["started_at"]
    assert started.startswith("20") and started.endswith("Z")


def session(api: Api) -> str:
    return api.token(TokenKind.SESSION)


# The end


@pytest.mark.parametrize(
    "finish",
    [
        {"state": "running"},
        {"state": "preparing"},
        {"state": "nonsense"},
        {"state": "succeeded", "exit_code": 1},
        {"state": "failed", "exit_code": 10**9},
        {"state": "failed", "exit_code": -(10**9)},
        {"state": "failed", "exit_code": 1.5},
        {"state": "failed", "reason": "nonsense"},
        {"state": "succeeded", "log_bytes": -1},
        {"state": "succeeded", "log_bytes": 2**63},
        {"state": "succeeded", "metrics": {"a": "b"}},
        {},
    ],
    ids=str,
)
def test_impossible_ends_are_refused(shared: Held, finish: dict[str, Any]) -> None:
    """B64."""
    before = shared.job
    refused(shared.call("POST", "finish", json=finish), 422, "invalid")
    assert shared.job == before


def test_what_never_ran_cannot_succeed(api: Api) -> None:
    """B64."""
    held = api.attempt()
    refused(held.finish(), 422, "invalid")
    assert held.job["state"] == "preparing"


def test_final_metrics_that_are_no_numbers_are_left_out(api: Api, held: Held) -> None:
    body = (
        '{"state": "succeeded", "exit_code": 0, "metrics": {"a": NaN, "b": Infinity, "c": -Infinity, "accuracy": 0.5}}'
    )
    held.ok("POST", "finish", data=body)
    assert api.get_run(held.run)["metrics"] == {"accuracy": 0.5}
    assert api.call("GET", "/api/v1/runs").text.count("NaN") == 0


@pytest.mark.parametrize(
    ("exit_code", "reason"), [(1, "exit_code"), (137, "out_of_memory"), (-9, "exit_code"), (255, "timeout")]
)
def test_exit_codes_and_reasons_are_kept(api: Api, held: Held, exit_code: int, reason: str) -> None:
    held.ok("POST", "finish", json={"state": "failed", "reason": reason, "exit_code": exit_code, "message": "why"})
    job = held.job
    assert (job["state"], job["reason"], job["exit_code"], job["message"]) == ("failed", reason, exit_code, "why")
    assert api.get_run(held.run)["reason"] == reason


def test_a_long_message_and_report_are_cut(api: Api, held: Held) -> None:
    held.ok("POST", "finish", json={"state": "failed", "reason": "exit_code", "exit_code": 1, "message": "é" * 9000,
                                    "report": "x" * 200_000})  # fmt: skip
    assert len(held.job["message"]) == 4000


def test_states_go_forward_only(held: Held) -> None:
    held.state("saving")
    held.state("running")
    held.state("preparing")
    assert held.job["state"] == "saving"
    refused(held.call("POST", "state", json={"state": "succeeded"}), 422, "invalid")


# Artifacts


FILES = {"model/weights": b"weights", "model/config.json": b"{}"}


def save(held: Held, manifest: Manifest | str, path: str = "model") -> Any:
    text = manifest if isinstance(manifest, str) else manifest.encode().decode()
    return held.call("POST", "artifacts", json={"path": path, "manifest": text})


def artifacts(api: Api, held: Held) -> list[dict[str, Any]]:
    return api.ok("GET", f"/api/v1/runs/{held.run}/artifacts")


def test_an_artifact_is_invisible_until_every_blob_is_there(api: Api, held: Held) -> None:
    """B75, I6."""
    files = {"model/a": os.urandom(100), "model/b": os.urandom(100)}
    first, second = files.values()
    refused(save(held, manifest_of(files)), 422, "invalid")
    held.ok("PUT", f"blobs/{sha256(first)}", data=first)
    refused(save(held, manifest_of(files)), 422, "invalid")
    assert artifacts(api, held) == []
    refused(held.call("PUT", f"blobs/{sha256(second)}", data=first), 422, "invalid")
    refused(held.call("PUT", f"blobs/{sha256(second)}", data=second[:-1]), 422, "invalid")
    refused(save(held, manifest_of(files)), 422, "invalid")
    asked = held.ok("POST", "blobs/missing", json={"digests": [sha256(first), sha256(second)]})
    assert asked == {"missing": [sha256(second)]}
    held.ok("PUT", f"blobs/{sha256(second)}", data=second)
    saved = save(held, manifest_of(files))
    assert saved.json() == {"digest": manifest_of(files).digest, "bytes": 200, "files": 2}
    (view,) = artifacts(api, held)
    assert (view["path"], view["bytes"], view["files"]) == ("model", 200, 2)


def test_a_manifest_that_lies_about_sizes_is_refused(api: Api, held: Held) -> None:
    held.save("other", {"x": b"weights"})
    lying = Manifest((FileEntry("model/weights", 8, sha256(b"weights")),))
    refused(save(held, lying), 422, "invalid")
    assert [a["path"] for a in artifacts(api, held)] == ["other"]


@pytest.mark.parametrize(
    "path",
    ["../x", "/x", "a/../../x", "a\\..\\b", "C:x", "%2e%2e/x", "%252e%252e/x", "a\0b", "a" * 300, "a.", "a /b", "", ".",
     "./a", "a//b", "a/", ".git/config", "A/.GIT/x", "a\nb", "a/" * 3000 + "b"],
    ids=repr,
)  # fmt: skip
def test_paths_that_leave_their_folder_are_refused(api: Api, shared: Held, path: str) -> None:
    """B72: in the manifest and as the artifact's own name."""
    shared.ok("PUT", f"blobs/{sha256(b'x')}", data=b"x")
    refused(save(shared, Manifest((FileEntry(path, 1, sha256(b"x")),))), 422, "invalid")
    assert artifacts(api, shared) == []


@pytest.mark.parametrize("path", ["../x", "/etc", "a\0b", "", "a" * 5000, "~/x", "a\\b"], ids=lambda p: repr(p[:10]))
def test_an_artifact_is_named_like_a_path(api: Api, shared: Held, path: str) -> None:
    answer = save(shared, manifest_of({}), path)
    refused(answer, 422, "invalid")
    assert artifacts(api, shared) == []


@pytest.mark.parametrize(
    "manifest",
    [
        "", "{}", "[]", "null", '{"v":1}', '{"v":2,"files":[]}', '{"v":1,"files":[[1]]}', '{"v": 1, "files": []}',
        '{"v":1,"files":[["l","/etc/passwd"]]}', '{"v":1,"files":[["l","../x"]]}', "[" * 100_000,
        '{"v":1,"files":[["a",420,-1,"' + "a" * 64 + '"]]}', '{"v":1,"files":[["a",2541,1,"' + "a" * 64 + '"]]}',
        '{"v":1,"files":[["a",420,1,"../../etc/passwd"]]}', '{"v":1,"files":[["a",420,' + "9" * 5000 + ',"x"]]}',
        '{"v":1,"files":[["a",420,true,"' + "a" * 64 + '"]]}',
    ],
    ids=lambda text: text[:40],
)  # fmt: skip
def test_what_is_no_manifest_is_refused(api: Api, shared: Held, manifest: str) -> None:
    refused(save(shared, manifest), 422, "invalid")
    assert artifacts(api, shared) == []


def test_saving_again_is_the_same_and_other_content_is_refused(api: Api, held: Held) -> None:
    """B76: never a mix."""
    first = held.save("model", FILES)
    assert held.save("model", FILES) == first
    held.ok("PUT", f"blobs/{sha256(b'other')}", data=b"other")
    refused(save(held, manifest_of({"model/weights": b"other"})), 409, "conflict")
    assert [a["digest"] for a in artifacts(api, held)] == [first["digest"]]


def test_saving_at_once_leaves_one(api: Api, held: Held) -> None:
    for data in FILES.values():
        held.ok("PUT", f"blobs/{sha256(data)}", data=data)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: save(held, manifest_of(FILES)), range(8)))
    assert {a.status_code for a in answers} == {200}
    assert len(artifacts(api, held)) == 1


def test_names_that_look_alike_are_kept_apart(api: Api, held: Held) -> None:
    """B77."""
    files = {"m/caf\u00e9": b"composed", "m/cafe\u0301": b"decomposed", "m/A": b"upper", "m/a": b"lower"}
    held.save("m", files)
    (view,) = artifacts(api, held)
    listed = api.ok("GET", f"/api/v1/artifacts/{view['id']}/files")
    assert {f["path"] for f in listed} == set(files)
    for path, data in files.items():
        assert api.call("GET", f"/api/v1/artifacts/{view['id']}/files/{path}").content == data


@pytest.mark.parametrize("digest", ["a" * 63, "A" * 64, "..%2f..%2fdstack.db", "g" * 64, "%00", "x" * 1000])
def test_a_digest_is_a_digest(shared: Held, digest: str) -> None:
    for method in ("GET", "PUT"):
        assert shared.call(method, f"blobs/{digest}", data=b"x").status_code in (400, 404, 422)
    assert shared.call("GET", f"manifests/{digest}").status_code in (400, 404, 422)


def test_too_many_digests_in_one_question(shared: Held) -> None:
    many = {"digests": [f"{n:064x}" for n in range(50_001)]}
    refused(shared.call("POST", "blobs/missing", json=many), 413, "too_large")
    refused(shared.call("POST", "blobs/missing", json={"digests": ["../x"]}), 422)


def test_an_attempt_reads_its_own_inputs_alone(api: Api) -> None:
    """B70."""
    runner = api.runner()
    job = runner.only(Job((Command("true"),)))
    names = api.runs({"prepare": job, "train": job}, needs={"train": ("prepare",)})
    first = runner.take(names["prepare"])
    saved = first.save("data", {"data/rows": b"rows"})
    hidden = api.attempt()
    secret = hidden.save("data", {"data/secret": b"not for others"})
    first.end()
    second = runner.take(names["train"])
    (given,) = second.order["inputs"]
    assert (given["path"], given["manifest"], given["files"]) == ("data", saved["digest"], 1)
    assert second.call("GET", f"manifests/{saved['digest']}").content == manifest_of({"data/rows": b"rows"}).encode()
    assert second.call("GET", f"blobs/{sha256(b'rows')}").content == b"rows"
    part = second.call("GET", f"blobs/{sha256(b'rows')}", headers={"Range": "bytes=1-2"})
    assert (part.status_code, part.content) == (206, b"ow")
    assert b"rows" in second.call("POST", "packs/read", json={"digests": [sha256(b"rows")]}).content
    for other in (secret["digest"], sha256(b"not for others"), "0" * 64):
        refused(second.call("GET", f"manifests/{other}"), 404)
        refused(second.call("GET", f"blobs/{other}"), 404)
        refused(second.call("POST", "packs/read", json={"digests": [sha256(b"rows"), other]}), 404)
    refused(hidden.call("GET", f"blobs/{sha256(b'rows')}"), 404)


# What a runner says of itself


@pytest.mark.parametrize(
    "more",
    [
        {"labels": ["x" * 10_000]}, {"labels": ["a\nb"]}, {"labels": [""]}, {"labels": ["x"] * 101}, {"slots": 0},
        {"slots": 10**9}, {"cpu": -1}, {"memory": -1}, {"memory": 2**70}, {"cpu": 10**30},
        {"devices": [{"id": "0", "name": "A", "memory": 1}] * 2},
        {"devices": [{"id": str(n), "name": "A", "memory": 1} for n in range(300)]},
        {"devices": [{"id": "x" * 10_000, "name": "A", "memory": 1}]},
        {"devices": [{"id": "0", "name": "A\n", "memory": 1}]},
        {"devices": [{"id": "0", "name": "A", "memory": -1}]},
    ],
    ids=lambda more: str(more)[:50],
)  # fmt: skip
def test_a_runner_cannot_claim_nonsense(api: Api, more: dict[str, Any]) -> None:
    """B68: when it registers, and in every poll."""
    runner = api.runner()
    capacity = runner.capacity | more
    made = api.call("POST", "/api/v1/runners", json={"name": runner.name + "x", "capacity": capacity})
    refused(made, 422, "invalid")
    refused(runner.call("POST", "/api/v1/runner/poll", json={"capacity": capacity, "wait_s": 0}), 422, "invalid")
    assert api.call("GET", "/api/v1/runners").status_code == 200


@pytest.mark.parametrize("name", ["", "x" * 101, "a\nb", "a\0b", "\u202eevil"], ids=repr)
def test_a_runners_name_is_printable(api: Api, name: str) -> None:
    body = {"name": name, "capacity": {"cpu": 1, "memory": 1}}
    refused(api.call("POST", "/api/v1/runners", json=body), 422, "invalid")


@pytest.mark.parametrize("wait_s", ["NaN", "-5", "-Infinity", "1e-9"])
def test_a_poll_waits_no_longer_than_it_may(api: Api, wait_s: str) -> None:
    runner = api.runner()
    body = f'{{"capacity": {{"cpu": 1, "memory": 1}}, "wait_s": {wait_s}}}'
    answer = runner.call("POST", "/api/v1/runner/poll", data=body, timeout=5)
    assert answer.status_code in (200, 422), answer.text


def test_another_protocol_is_named(api: Api) -> None:
    """B69."""
    runner = api.runner()
    for spoken in ("0", "99", "x", "1.0", ""):
        headers = {"Dstack-Protocol": spoken}
        answer = runner.call("POST", "/api/v1/runner/poll", headers=headers, json={"capacity": runner.capacity})
        problem = refused(answer, 426, "unsupported_version")
        assert str(PROTOCOL) in problem["message"]
        body = {"name": "new", "capacity": runner.capacity}
        refused(api.call("POST", "/api/v1/runners", headers=headers, json=body), 426)
    assert runner.poll() == {"offers": [], "stops": []}


def test_a_runner_that_calls_too_often_is_slowed_down_but_its_log_is_not(api: Api, held: Held) -> None:
    """B66: 200 calls a second, twice that in a burst; log bytes are exempt."""
    begun = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        send = lambda _: held.call("POST", "state", data=b"{}")  # noqa: E731
        answers = list(pool.map(send, range(1200)))
    took_s = time.monotonic() - begun
    slowed = [a for a in answers if a.status_code == 429]
    assert {a.status_code for a in answers} <= {422, 429}
    assert 1200 - len(slowed) <= 400 + 200 * took_s + 1
    for answer in slowed[:1]:
        assert int(answer.headers["retry-after"]) >= 1
        refused(answer, 429, "too_many")
    assert held.call("PUT", "log?offset=0", data=b"still\n").status_code == 200


def test_the_pace_of_one_caller_does_not_slow_another() -> None:
    now = [0.0]
    pace = Pace(10, lambda: now[0])
    for _ in range(20):
        pace.take("a")
    with pytest.raises(TooMany):
        pace.take("a")
    pace.take("b")
    now[0] += 0.5
    for _ in range(5):
        pace.take("a")
    with pytest.raises(TooMany):
        pace.take("a")
