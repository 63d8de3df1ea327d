"""What every place for logs must do. A new one joins by a line in `STORES`."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from dstack.errors import Conflict, Invalid, OffsetMismatch, Unavailable
from dstack.server.gateways.logs_local import LocalLogs
from dstack.server.gateways.ports import READ_BYTES, Logs

STORES: dict[str, Callable[[Path], Logs]] = {"local": lambda folder: LocalLogs(folder / "logs")}


@pytest.fixture(params=sorted(STORES))
def logs(request: pytest.FixtureRequest, tmp_path: Path) -> Logs:
    return STORES[request.param](tmp_path)


def read_all(logs: Logs, attempt: str, start: int = 0, end: int | None = None) -> bytes:
    return b"".join(logs.read(attempt, start, end))


def test_appends_are_read_in_order(logs: Logs) -> None:
    assert logs.append("att-1", 0, b"hello ") == 6
    assert logs.append("att-1", 6, b"world\n") == 12
    assert logs.size("att-1") == 12
    assert read_all(logs, "att-1") == b"hello world\n"
    assert read_all(logs, "att-1", 4, 8) == b"o wo"
    assert logs.finish("att-1") == 12


def test_a_log_nobody_wrote_is_empty(logs: Logs) -> None:
    assert (logs.size("none"), read_all(logs, "none"), logs.tail("none", 5)) == (0, b"", (0, b""))
    assert logs.delete("none") == 0
    assert logs.finish("none") == 0


def test_a_gap_is_refused_with_the_expected_offset(logs: Logs) -> None:
    logs.append("a", 0, b"12345")
    with pytest.raises(OffsetMismatch) as caught:
        logs.append("a", 7, b"x")
    assert caught.value.expected == 5
    assert read_all(logs, "a") == b"12345"


@pytest.mark.parametrize(
    ("offset", "data", "size"),
    [(0, b"12345", 5), (3, b"45", 5), (2, b"345678", 8), (5, b"", 5), (1, b"", 5), (0, b"1", 5)],
)
def test_the_same_bytes_may_be_sent_again(logs: Logs, offset: int, data: bytes, size: int) -> None:
    logs.append("a", 0, b"12345")
    assert logs.append("a", offset, data) == size
    assert read_all(logs, "a") == b"12345678"[:size]


@pytest.mark.parametrize(("offset", "data"), [(0, b"1234x"), (3, b"4x"), (4, b"x67"), (0, b"x2345678")])
def test_other_bytes_are_refused(logs: Logs, offset: int, data: bytes) -> None:
    logs.append("a", 0, b"12345")
    with pytest.raises(Conflict) as caught:
        logs.append("a", offset, data)
    assert not isinstance(caught.value, OffsetMismatch)
    assert read_all(logs, "a") == b"12345"


def test_attempts_are_apart(logs: Logs) -> None:
    logs.append("run-1", 0, b"one")
    logs.append("run-11", 0, b"two")
    assert logs.delete("run-1") == 3
    assert (read_all(logs, "run-1"), read_all(logs, "run-11")) == (b"", b"two")


@pytest.mark.parametrize("name", ["", "../x", "a/b", "a\0b", ".hidden", "x" * 129, "-x", "ü"])
def test_what_is_no_attempt_is_refused(logs: Logs, name: str) -> None:
    with pytest.raises(Invalid):
        logs.append(name, 0, b"x")
    with pytest.raises(Invalid):
        logs.read(name)


@pytest.mark.parametrize(
    ("text", "lines", "expected"),
    [
        (b"a\nb\nc\n", 2, (2, b"b\nc\n")),
        (b"a\nb\nc", 2, (2, b"b\nc")),
        (b"a\nb\n", 9, (0, b"a\nb\n")),
        (b"a\nb\n", 0, (4, b"")),
        (b"\n\n\n", 1, (2, b"\n")),
        (b"one line", 1, (0, b"one line")),
    ],
)
def test_tail_gives_the_last_lines(logs: Logs, text: bytes, lines: int, expected: tuple[int, bytes]) -> None:
    logs.append("a", 0, text)
    assert logs.tail("a", lines) == expected


def test_tail_is_bounded_and_begins_at_a_line(logs: Logs) -> None:
    logs.append("a", 0, b"".join(b"line %04d\n" % n for n in range(1000)))
    start, text = logs.tail("a", 5000, max_bytes=95)
    assert text.startswith(b"line 0991\n")
    assert text.endswith(b"line 0999\n")
    assert start == 9910
    logs.append("b", 0, b"x" * 1000)
    assert logs.tail("b", 3, max_bytes=95) == (905, b"x" * 95)


def test_a_large_log_is_read_in_pieces(logs: Logs) -> None:
    data = random.Random(5).randbytes(2 * READ_BYTES + 5)
    logs.append("a", 0, data)
    pieces = list(logs.read("a", 3))
    assert max(map(len, pieces)) <= READ_BYTES
    assert b"".join(pieces) == data[3:]


def test_two_senders_of_one_log_store_it_once(logs: Logs) -> None:
    data = random.Random(6).randbytes(200_000)

    def send() -> None:
        for at in range(0, len(data), 1000):
            logs.append("a", at, data[at : at + 1000])

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read_all(logs, "a") == data


def test_a_full_disk_is_said_and_adds_nothing(small_disk: Path) -> None:
    logs = LocalLogs(small_disk / "logs")
    logs.append("a", 0, b"kept\n")
    with pytest.raises(Unavailable, match="is full"):
        logs.append("a", 5, b"x" * (8 * 1024 * 1024))
    assert read_all(logs, "a") == b"kept\n"
    assert logs.append("a", 5, b"more\n") == 10
