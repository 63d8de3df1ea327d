"""The instruments themselves: the history finds what is wrong, and the proxy plays each fault as it says."""

from __future__ import annotations

import http.server
import json
import re
import socket
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from history import Heard, Ledger
from tcp_proxy import Answer, CutAt, Hang, LoseReply, Reset, TcpProxy

from dstack.errors import Usage
from dstack.server.failpoints import parse_failpoints


def test_failpoints_are_read_or_refused_with_the_names_there_are() -> None:
    assert parse_failpoints("") == {}
    assert parse_failpoints("commit-before=kill@3; finish-before-reply=kill") == {
        "commit-before": 3, "finish-before-reply": 1,
    }  # fmt: skip
    for text in (
        "nowhere=kill",
        "commit-before",
        "commit-before=sleep",
        "commit-before=kill@0",
        "commit-before=kill@x",
    ):
        with pytest.raises(Usage, match=re.escape(text)) as refused:
            parse_failpoints(text)
        assert "finish-before-reply" in refused.value.hint


TABLES = """
CREATE TABLE runs (id INTEGER PRIMARY KEY, group_id INT, state TEXT);
CREATE TABLE jobs (id INTEGER PRIMARY KEY, run_id INT, state TEXT);
CREATE TABLE attempts
  (id TEXT, job_id INT, runner_id INT, state TEXT, accepted_at REAL, finished_at REAL, log_bytes INT);
CREATE TABLE runners (id INTEGER PRIMARY KEY, capacity TEXT);
CREATE TABLE deliveries (id INTEGER PRIMARY KEY, kind TEXT, state TEXT, reason TEXT);
CREATE TABLE artifacts (id INTEGER PRIMARY KEY, path TEXT, digest TEXT, bytes INT, files INT);
INSERT INTO runners VALUES (1, '{"slots": 1}');
"""
A_RUN = """
INSERT INTO runs VALUES (1, 1, 'queued'); INSERT INTO jobs VALUES (1, 1, 'queued');
INSERT INTO attempts VALUES ('aa', 1, 1, 'running', 1, NULL, NULL);
UPDATE attempts SET state = 'succeeded', finished_at = 2, log_bytes = 3;
UPDATE jobs SET state = 'succeeded'; UPDATE runs SET state = 'succeeded';
INSERT INTO deliveries VALUES (1, 'push', 'processed', '');
"""


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with sqlite3.connect(tmp_path / "dstack.db") as db:
        db.executescript(TABLES)
    db.close()
    (tmp_path / "logs/aa").mkdir(parents=True)
    (tmp_path / "logs/aa/aa.log").write_bytes(b"log")
    ledger = Ledger(tmp_path)
    ledger.open()
    yield ledger


def play(folder: Path, script: str) -> None:
    db = sqlite3.connect(folder / "dstack.db")
    db.executescript(script)
    db.close()


def test_a_sound_history_has_no_problem(ledger: Ledger, tmp_path: Path) -> None:
    play(tmp_path, A_RUN)
    assert ledger.check() == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("UPDATE runs SET state = 'failed'", "runs 1 went queued succeeded failed"),
        ("UPDATE jobs SET state = 'queued'", "jobs 1 went queued succeeded queued"),
        ("INSERT INTO runs VALUES (2, 1, 'queued')", "runs 2 went queued"),
        (
            "INSERT INTO attempts VALUES ('bb', 1, 1, 'running', 3, 4, 0); INSERT INTO attempts VALUES ('cc', 1, 1, "
            "'running', 5, 6, 0); UPDATE attempts SET state = 'lost' WHERE id > 'aa'",
            "live attempts ['bb', 'cc'] at once",
        ),
        ("INSERT INTO attempts VALUES ('bb', 1, 1, 'succeeded', 3, 4, 0)", "job 1 succeeded in ['aa', 'bb']"),
        ("INSERT INTO attempts VALUES ('bb', 2, 1, 'lost', 1.5, 4, 0)", "runner 1 held 2 leases with 1 slots"),
        ("INSERT INTO deliveries VALUES (2, 'push', 'received', '')", "delivery 2 (push) is received"),
        ("INSERT INTO deliveries VALUES (2, 'push', 'failed', '')", "delivery 2 (push) is failed"),
        ("UPDATE attempts SET log_bytes = 4", "attempt aa wrote 4 bytes of log, 3 are stored"),
        (
            f"INSERT INTO artifacts VALUES (1, 'out', '{'0' * 64}', 1, 1)",
            "artifact 1 (out): its manifest is not stored",
        ),
    ],
)
def test_a_broken_history_is_told(ledger: Ledger, tmp_path: Path, change: str, said: str) -> None:
    play(tmp_path, A_RUN + change)
    assert any(said in problem for problem in ledger.check())


class _Echo(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    seen: list[bytes] = []

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if len(body) < int(self.headers["Content-Length"]):
            return
        self.seen.append(body)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def echo() -> Iterator[tuple[TcpProxy, Heard, list[bytes]]]:
    _Echo.seen = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Echo)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    heard = Heard()
    proxy = TcpProxy(("127.0.0.1", server.server_port), heard).start()
    yield proxy, heard, _Echo.seen
    proxy.close()
    server.shutdown()
    server.server_close()


def put(proxy: TcpProxy, body: bytes = b"body", timeout_s: float = 10) -> requests.Response:
    with requests.Session() as session:
        return session.put(f"{proxy.url}/api/v1/attempts/aa/log?offset=0", data=body, timeout=timeout_s)


def test_without_a_fault_everything_passes_and_is_heard(echo: tuple[TcpProxy, Heard, list[bytes]]) -> None:
    proxy, heard, seen = echo
    assert put(proxy, b"x" * 10**6).content == b"x" * 10**6
    (call,) = heard.of("log", "aa")
    assert (call.method, call.status, call.body_size, call.delivered, len(seen)) == ("PUT", 200, 10**6, True, 1)


@pytest.mark.parametrize(
    ("fault", "arrives"), [(Reset(), 0), (LoseReply(), 1), (CutAt(300), 0), (Hang(), 0)], ids=lambda v: str(v)
)
def test_a_fault_is_played_once(echo: tuple[TcpProxy, Heard, list[bytes]], fault: object, arrives: int) -> None:
    proxy, heard, seen = echo
    proxy.on("^PUT .*/log", fault)
    with pytest.raises(requests.RequestException):
        put(proxy, b"x" * 1000, timeout_s=0.5 if isinstance(fault, Hang) else 10)
    assert len(seen) == arrives
    assert [(call.status, call.delivered) for call in heard.of("log")] == [(200, False)] * arrives
    assert put(proxy).content == b"body"
    assert [fault for _, fault in proxy.played] == [fault]


def test_an_answer_of_the_proxy_never_reaches_the_server(echo: tuple[TcpProxy, Heard, list[bytes]]) -> None:
    proxy, _, seen = echo
    proxy.on("log", Answer(503))
    answer = put(proxy, b"x" * 10**6)
    assert (answer.status_code, json.loads(answer.content)["error"], seen) == (503, "x", [])


def test_cut_and_deaf_networks_come_back(echo: tuple[TcpProxy, Heard, list[bytes]]) -> None:
    proxy, _, seen = echo
    proxy.cut()
    with pytest.raises(requests.ConnectionError):
        put(proxy)
    proxy.mend()
    assert put(proxy).ok
    proxy.deafen()
    with socket.create_connection(("127.0.0.1", proxy.port)):  # taken, and then silence
        with pytest.raises(requests.Timeout):
            put(proxy, timeout_s=0.3)
        proxy.mend()
    assert put(proxy).ok
    assert len(seen) == 2
