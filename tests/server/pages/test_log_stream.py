"""The live log over real sockets: order, resumption, skipping, readers who stop reading."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from contextlib import closing

import pytest
import requests
from page_data import a_page, a_run

from dstack.server.web import log_stream
from dstack.server.web.render.models import AttemptData

STREAM = "/runs/brave-otter-17/log/stream?attempt=t1"


@pytest.fixture(autouse=True)
def _a_run_with_one_attempt(site) -> None:
    site.views.runs[:] = [a_page(a_run(), attempts=[AttemptData("t1", "train", 1, "running")])]


class Events:
    """The events of a stream, as an EventSource would read them."""

    def __init__(self, answer: requests.Response) -> None:
        assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/event-stream")
        self._pieces = answer.iter_content(chunk_size=None)
        self.last_id = ""
        self.comments = 0

    def _lines(self) -> Iterator[str]:
        rest = b""
        for piece in self._pieces:
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                yield line.decode()

    def __iter__(self) -> Iterator[tuple[str, str]]:
        name, data = "", []
        for line in self._lines():
            if not line:
                if name:
                    yield name, "\n".join(data)
                name, data = "", []
            elif line.startswith(":"):
                self.comments += 1
            elif line.startswith("event: "):
                name = line[7:]
            elif line.startswith("data:"):
                data.append(line[5:].removeprefix(" "))
            elif line.startswith("id: "):
                self.last_id = line[4:]


def open_stream(site, offset: int = 0, **headers: str) -> tuple[requests.Response, Events]:
    answer = site.get(f"{STREAM}&offset={offset}", stream=True, headers=headers)
    return answer, Events(answer)


def numbers(html: str) -> list[int]:
    return [int(number) for number in re.findall(r'id="L(\d+)"', html)]


def text_of(html: str) -> list[str]:
    return [re.sub("<[^>]+>", "", line) for line in html.split("\n")]


def test_lines_come_as_they_are_printed_until_the_end(site) -> None:
    site.logs.append("t1", b"one\n")
    answer, events = open_stream(site)
    with closing(answer):
        stream = iter(events)
        assert next(stream)[0] == "lines"
        assert events.last_id == "4"
        site.logs.append("t1", b"two\n<b>th")
        seen = [next(stream) for _ in range(3)]
        assert [name for name, _ in seen] == ["partial", "lines", "partial"]
        assert text_of(seen[1][1]) == ["two"] and numbers(seen[1][1]) == [2]
        assert seen[2][1] == "&lt;b&gt;th"
        assert events.last_id == "8"  # the offset after the last whole line, so that a reader comes back to its start
        site.logs.append("t1", b"ree", ended=True)
        rest = list(stream)
        assert [name for name, _ in rest] == ["partial", "lines", "end"]
        assert text_of(rest[1][1]) == ["&lt;b&gt;three"] and numbers(rest[1][1]) == [3]


def test_a_bar_is_one_line_that_changes(site) -> None:
    site.logs.append("t1", b"\r 10%")
    answer, events = open_stream(site)
    with closing(answer):
        stream = iter(events)
        assert next(stream) == ("partial", " 10%")
        site.logs.append("t1", b"\r 20%")
        assert next(stream) == ("partial", " 20%")
        site.logs.append("t1", b"\r100%\ndone\n", ended=True)
        name, data = next(stream)
        assert name == "lines" and text_of(data) == ["100%", "done"] and numbers(data) == [1, 2]


def test_a_broken_stream_goes_on_where_it_was(site) -> None:
    log = b"".join(b"line %d\n" % number for number in range(1, 5001))
    site.logs.append("t1", log)
    seen: list[str] = []
    last_id = ""
    for _ in range(100):
        answer, events = open_stream(site, **({"last-event-id": last_id} if last_id else {}))
        with closing(answer):
            for name, data in events:
                assert name in ("lines", "partial", "end")
                if name == "lines":
                    assert numbers(data)[0] == len(seen) + 1
                    seen += text_of(data)
                    last_id = events.last_id
                    break  # the connection is cut after every piece
        if len(seen) == 5000:
            break
    assert seen == [f"line {number}" for number in range(1, 5001)]


@pytest.mark.parametrize("offset", ["-5", "abc", "1e3", "9" * 40, "99999"])
def test_senseless_offsets_do_no_harm(site, offset: str) -> None:
    site.logs.append("t1", b"one\ntwo\n", ended=True)
    answer, events = open_stream(site, **{"last-event-id": offset})
    with closing(answer):
        names = [name for name, _ in events]
        assert names[-1] == "end"


def test_a_reader_far_behind_is_taken_to_the_newest_lines(site) -> None:
    lines = 400_000
    site.logs.append("t1", b"".join(b"line %06d\n" % number for number in range(1, lines + 1)), ended=True)
    answer, events = open_stream(site)
    with closing(answer):
        seen = list(events)
    assert seen[0][0] == "skip" and "lines came too fast" in seen[0][1]
    shown = [line for name, data in seen if name == "lines" for line in text_of(data)]
    first = numbers(next(data for name, data in seen if name == "lines"))[0]
    assert shown == [f"line {number:06d}" for number in range(first, lines + 1)]
    assert 10_000 < len(shown) < 30_000


def test_quiet_streams_are_kept_alive(site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_stream, "PING_S", 0.02)
    answer, _ = open_stream(site)
    with closing(answer):
        stream = answer.iter_content(chunk_size=None)
        received = b""
        while received.count(b": still here\n\n") < 3:
            received += next(stream)
    assert received.startswith(b"retry: 2000\n\n")


def test_a_server_that_stops_ends_the_stream_so_that_readers_come_back(site) -> None:
    site.logs.append("t1", b"one\n")
    answer, events = open_stream(site)
    with closing(answer):
        stream = iter(events)
        assert next(stream)[0] == "lines"
        site.logs.close()
        assert [name for name, _ in stream] == ["partial"]  # no `end`: the browser reconnects with its last id


def _connect(site) -> socket.socket:
    host, port = site.url.removeprefix("http://").split(":")
    stuck = socket.socket()
    stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    stuck.connect((host, int(port)))
    stuck.sendall(f"GET {STREAM} HTTP/1.1\r\nHost: x\r\nCookie: dstack_session=session-of-ada\r\n\r\n".encode())
    return stuck


def _until(question, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not question():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_reader_who_takes_nothing_is_dropped_and_others_are_served(
    site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(log_stream, "STUCK_S", 0.5)
    caplog.set_level("INFO", log_stream.__name__)
    stuck = [_connect(site) for _ in range(20)]

    def all_dropped() -> bool:
        # More than the system's socket buffers hold, a little at a time: nobody is taken to the end meanwhile.
        site.logs.append("t1", (b"y" * 99 + b"\n") * 1000)
        return caplog.text.count("was dropped") == 20

    try:
        _until(lambda: site.logs.waits >= 20)
        _until(all_dropped, 30)
        answer, events = open_stream(site, offset=site.logs.size("t1").bytes - 1000)
        with closing(answer):
            assert next(iter(events))[0] == "lines"
    finally:
        for connection in stuck:
            connection.close()


def test_five_hundred_readers_see_the_same(site) -> None:
    connections = [_connect(site) for _ in range(500)]
    try:
        _until(lambda: site.logs.waits >= 500, 30)
        site.logs.append("t1", b"hello everyone\n", ended=True)
        for connection in connections:
            connection.settimeout(20)
            received = b""
            while b"event: end" not in received:
                piece = connection.recv(65536)
                assert piece
                received += piece
            assert received.count(b"hello everyone") == 1
    finally:
        for connection in connections:
            connection.close()


def test_the_raw_log_is_a_file_to_save(site) -> None:
    data = b"\x1b[31m<script>\xff\r\n" * 200_000
    site.logs.append("t1", data)
    answer = site.get("/runs/brave-otter-17/log/raw?attempt=t1")
    assert answer.content == data
    assert 'filename="brave-otter-17-train-1.log"' in answer.headers["content-disposition"]
    assert answer.headers["content-security-policy"].startswith("sandbox")


def test_earlier_lines_and_the_page_of_a_line(site) -> None:
    site.logs.append("t1", b"".join(b"line %d\n" % number for number in range(1, 5001)))
    page = site.get("/runs/brave-otter-17").text
    assert numbers(page)[0] == 3001 and numbers(page)[-1] == 5000
    earlier = re.search(r'id="earlier" href="([^"]+)"', page)
    assert earlier
    fragment = site.get(earlier[1].replace("&amp;", "&") + "&fragment=1").text
    assert numbers(fragment) == list(range(1001, 3001)) and "<html" not in fragment
    around = site.get("/runs/brave-otter-17/log?attempt=t1&line=1500").text
    assert numbers(around)[0] == 1450 and 'id="L1500"' in around and "line=3500" in around
