"""The server's doors for large bodies, knocked on by hand: limits, lengths, ranges, cut connections."""

from __future__ import annotations

import hashlib
import http.client
import socket
import time
from collections.abc import Iterator
from urllib.parse import quote

import psutil
import pytest
from store_server import Serving, Store

from dstack.server.web.ranges import NotSatisfiable, parse_range
from dstack.wire.pack import read_pack, write_pack
from dstack.wire.runner import MAX_LOG_BYTES, MAX_LOG_CHUNK, MAX_PACK_BYTES, SMALL_BLOB_BYTES

AT = "/api/v1/attempts/a1"


class Door:
    """One connection to the server; every answer as (status, body)."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        self.headers: dict[str, str] = {}

    def __call__(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        self.connection.request(method, AT + path, body, names)
        answer = self.connection.getresponse()
        self.headers = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, answer.read()

    def head(self, method: str, path: str, *lines: str) -> int:
        """Send a head alone, none of the body it announces; the status answered to it."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as sock:
            sock.sendall("\r\n".join([f"{method} {AT}{path} HTTP/1.1", "Host: x", *lines, "", ""]).encode())
            return int(sock.recv(100).split()[1])


@pytest.fixture
def door(serving: Serving) -> Iterator[Door]:
    door = Door(serving.port)
    yield door
    door.connection.close()


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_log_grows_by_offset(door: Door, store: Store) -> None:
    assert door("PUT", "/log?offset=0", b"hello ") == (200, b'{"size":6}')
    assert door("PUT", "/log?offset=6", b"world") == (200, b'{"size":11}')
    assert door("PUT", "/log?offset=3", b"lo world") == (200, b'{"size":11}')
    status, body = door("PUT", "/log?offset=99", b"x")
    assert (status, b'"expected":11' in body, b"offset_mismatch" in body) == (409, True, True)
    status, body = door("PUT", "/log?offset=9", b"LD")
    assert (status, b'"conflict"' in body) == (409, True)
    assert b"".join(store.logs.read("a1")) == b"hello world"


def test_a_gap_is_answered_before_the_body_is_sent(door: Door, store: Store) -> None:
    assert door.head("PUT", "/log?offset=5", "Content-Length: 1000") == 409


@pytest.mark.parametrize("offset", ["", "-1", "x", "1.0", "\u0661", "9" * 30])
def test_a_bad_offset_is_malformed(door: Door, offset: str) -> None:
    assert door.head("PUT", f"/log?offset={quote(offset)}", "Content-Length: 1") == 400


@pytest.mark.parametrize(
    ("path", "length"),
    [
        ("/log?offset=0", MAX_LOG_CHUNK + 1),
        (f"/log?offset={MAX_LOG_BYTES}", 1),
        ("/packs", MAX_PACK_BYTES + 1),
        ("/blobs/" + "0" * 64, 1024**4 + 1),
        ("/blobs/" + "0" * 64, 10**17),
    ],
)
def test_what_is_too_long_is_refused_before_it_is_read(door: Door, path: str, length: int) -> None:
    assert door.head("PUT", path, f"Content-Length: {length}") == 413


@pytest.mark.parametrize("path", ["/log?offset=0", "/packs", "/blobs/" + "0" * 64])
def test_a_body_must_say_its_length_and_be_plain(door: Door, path: str) -> None:
    assert door.head("PUT", path, "Transfer-Encoding: chunked") == 400
    assert door.head("PUT", path, "Content-Length: 10", "Content-Encoding: gzip") == 413


def test_a_question_has_limits(door: Door) -> None:
    assert door.head("POST", "/blobs/missing", "Content-Length: 5000000") == 413
    assert door("POST", "/blobs/missing", b"not json")[0] == 400
    assert door("POST", "/blobs/missing", b'{"digests": 5}')[0] == 422
    assert door("POST", "/blobs/missing", b'{"digests": ["../../etc/passwd"]}')[0] == 422
    assert door("POST", "/blobs/missing", b'{"digests": []}') == (200, b'{"missing":[]}')


def test_a_blob_is_stored_and_given_back(door: Door, store: Store) -> None:
    data = bytes(range(256)) * 5000
    assert door("PUT", f"/blobs/{digest_of(data)}", data) == (200, b'{"size":1280000}')
    assert door("PUT", f"/blobs/{digest_of(data)}", data)[0] == 200
    assert door("GET", f"/blobs/{digest_of(data)}") == (200, data)
    assert door.headers["content-length"] == str(len(data))
    assert door.headers["x-content-type-options"] == "nosniff"
    assert door.headers["content-disposition"].startswith("attachment")
    assert "sandbox" in door.headers["content-security-policy"]


def test_other_bytes_than_named_are_refused_and_invisible(door: Door, store: Store) -> None:
    assert door("PUT", f"/blobs/{digest_of(b'named')}", b"other")[0] == 422
    assert door("PUT", "/blobs/zz", b"x")[0] == 422
    assert door("GET", f"/blobs/{digest_of(b'named')}")[0] == 404
    assert list(store.objects.stored()) == []


def test_a_connection_cut_in_a_body_leaves_nothing(door: Door, store: Store) -> None:
    data = b"x" * 3_000_000
    pack = write_pack([(digest_of(b"one"), b"one"), (digest_of(b"two"), b"two" * 50_000)][:1])
    for path, body in ((f"/blobs/{digest_of(data)}", data), ("/packs", pack)):
        with socket.create_connection(("127.0.0.1", door.port)) as sock:
            head = f"PUT {AT}{path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            sock.sendall(head.encode() + body[:-1])
    deadline = time.monotonic() + 10
    while [*store.objects.path_of("0" * 64).parent.parent.glob("incoming/*")]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert list(store.objects.stored()) == []


def test_a_connection_cut_in_a_log_keeps_what_came(door: Door, store: Store) -> None:
    with socket.create_connection(("127.0.0.1", door.port)) as sock:
        sock.sendall(f"PUT {AT}/log?offset=0 HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n".encode())
        sock.sendall(b"x" * 1_500_000)
    body = b"x" * 2_000_000
    assert door("PUT", "/log?offset=0", body) == (200, b'{"size":2000000}')
    assert b"".join(store.logs.read("a1")) == body


def test_packs_go_in_and_come_out(door: Door, store: Store) -> None:
    blobs = [(digest_of(data), data) for data in (b"", b"one", b"two" * 1000)]
    assert door("PUT", "/packs", write_pack(blobs)) == (200, b'{"blobs":3}')
    question = '{{"digests": [{}]}}'.format(",".join(f'"{digest}"' for digest, _ in blobs))
    status, body = door("POST", "/packs/read", question.encode())
    assert (status, list(read_pack([body]))) == (200, blobs)
    assert door("POST", "/packs/read", b'{"digests": ["%s"]}' % (b"0" * 64))[0] == 404


def test_a_bad_pack_stores_none_of_its_blobs(door: Door, store: Store) -> None:
    good = write_pack([(digest_of(b"one"), b"one")])
    for body, status in (
        (good[:-1], 400),
        (b"nonsense" * 10, 400),
        (write_pack([(digest_of(b"one"), b"one"), (digest_of(b"two"), b"owt")]), 422),
        (write_pack([(digest_of(b"x"), b"x" * (SMALL_BLOB_BYTES + 1))]), 413),
    ):
        assert door("PUT", "/packs", body)[0] == status
    assert list(store.objects.stored()) == []


def test_large_blobs_do_not_come_in_packs(door: Door, store: Store) -> None:
    data = b"x" * (SMALL_BLOB_BYTES + 1)
    store.objects.put(digest_of(data), data)
    assert door("POST", "/packs/read", b'{"digests": ["%s"]}' % digest_of(data).encode())[0] == 413


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-3", b"0123"),
        ("bytes=6-", b"6789"),
        ("bytes=-2", b"89"),
        ("bytes=8-99", b"89"),
        ("bytes=-99", b"0123456789"),
    ],
)
def test_a_range_is_served(door: Door, store: Store, header: str, expected: bytes) -> None:
    store.objects.put(digest_of(b"0123456789"), b"0123456789")
    assert door("GET", f"/blobs/{digest_of(b'0123456789')}", Range=header) == (206, expected)
    start = b"0123456789".index(expected)
    assert door.headers["content-range"] == f"bytes {start}-{start + len(expected) - 1}/10"


@pytest.mark.parametrize(
    "header",
    ["bytes=5-2", "bytes=10-", "bytes=-0", "bytes=-", "bytes=a-b", "bytes=1", "bytes=", "bytes=0-1,9-3",
     "bytes=" + ",".join(f"{n}-{n}" for n in range(10_000)), "bytes=" + "9" * 40 + "-"],
)  # fmt: skip
def test_bad_ranges_are_refused_fast(header: str) -> None:
    began = time.thread_time()
    with pytest.raises(NotSatisfiable):
        parse_range(header, 10)
    assert time.thread_time() - began < 0.01


def test_a_refused_range_says_the_size(door: Door, store: Store) -> None:
    store.objects.put(digest_of(b"0123456789"), b"0123456789")
    assert door("GET", f"/blobs/{digest_of(b'0123456789')}", Range="bytes=10-")[0] == 416
    assert door.headers["content-range"] == "bytes */10"


@pytest.mark.parametrize(("header", "size"), [("", 5), ("lines=1-2", 5), ("bytes=0-1,3-4", 5)])
def test_other_headers_mean_the_whole(header: str, size: int) -> None:
    assert parse_range(header, size) is None


def test_memory_stays_flat_for_large_bodies(door: Door, store: Store) -> None:
    """64 MiB through each door, within far less memory than that."""
    process = psutil.Process()
    data = b"0123456789abcdef" * (MAX_LOG_CHUNK // 16)
    large = data * 8
    digest = digest_of(large)
    door("PUT", "/log?offset=0", data)
    before = process.memory_info().rss
    for n in range(1, 8):
        assert door("PUT", f"/log?offset={n * MAX_LOG_CHUNK}", data)[0] == 200
    assert door("PUT", f"/blobs/{digest}", large)[0] == 200
    assert process.memory_info().rss - before < 30_000_000
    assert digest_of(b"".join(store.logs.read("a1"))) == digest
