"""Windows of a log and the numbers of their lines, against counting by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dstack.server.web.log_window import WINDOW_BYTES, WINDOW_LINES, LineIndex, LogWindow, Read, read_window

_LOGS = st.lists(st.sampled_from([b"\n", b"a", b"bc\n", b"12345678\n"]), max_size=60).map(b"".join)


def reader(data: bytes, reads: list[int] | None = None) -> Read:
    def read(start: int, end: int) -> bytes:
        if reads is not None:
            reads.append(end - start)
        return data[start:end]

    return read


def window(data: bytes, *, ended: bool = True, before: int | None = None, line: int | None = None) -> LogWindow:
    return read_window(reader(data), LineIndex(reader(data)), len(data), ended=ended, before=before, line=line)


@given(_LOGS, st.integers(1, 9), st.integers(0, 400))
def test_the_index_counts_lines(data: bytes, stride: int, offset: int) -> None:
    offset = min(offset, len(data))
    assert LineIndex(reader(data), stride).lines_before(offset) == data[:offset].count(b"\n")


@given(_LOGS, st.integers(1, 9), st.integers(1, 80))
def test_the_index_finds_lines(data: bytes, stride: int, line: int) -> None:
    starts = [0, *(at + 1 for at, byte in enumerate(data) if byte == 10)]
    expected = starts[line - 1] if line <= len(starts) else len(data)
    assert LineIndex(reader(data), stride).start_of(line, len(data)) == expected


def test_a_growing_log_is_read_once_for_its_numbers() -> None:
    data, reads = b"x\n" * 50_000, []
    index = LineIndex(reader(data, reads), 1000)
    assert index.lines_before(100_000) == 50_000
    assert sum(reads) <= 101_000
    reads.clear()
    assert index.lines_before(99_500) == 49_750
    assert sum(reads) <= 1000


@pytest.mark.parametrize("count", [0, 1, 2, WINDOW_LINES - 1, WINDOW_LINES, WINDOW_LINES + 1, 3 * WINDOW_LINES])
def test_the_tail_is_the_last_lines_with_their_numbers(count: int) -> None:
    shown = window(b"".join(b"line %d\n" % number for number in range(1, count + 1)))
    kept = min(count, WINDOW_LINES)
    assert len(shown.lines) == kept
    if kept:
        assert (shown.first, shown.lines[0]) == (count - kept + 1, f"line {count - kept + 1}")
        assert (shown.last, shown.lines[-1]) == (count, f"line {count}")
    assert shown.has_earlier == (count > kept) and not shown.has_later


def test_going_back_window_by_window_shows_every_line_once() -> None:
    data = b"".join(b"line %d\n" % number for number in range(1, 7001))
    seen: list[str] = []
    shown = window(data)
    while True:
        seen = [*shown.lines, *seen]
        if not shown.has_earlier:
            break
        shown = window(data, before=shown.start)
    assert seen == [f"line {number}" for number in range(1, 7001)]


def test_long_lines_are_bounded_by_bytes_and_still_numbered() -> None:
    data = b"".join(b"%05d" % number + b"x" * 10_000 + b"\n" for number in range(1, 301))
    shown = window(data)
    assert shown.end - shown.start <= WINDOW_BYTES
    assert shown.lines[0].startswith(f"{shown.first:05d}") and shown.last == 300


def test_one_line_larger_than_a_window() -> None:
    shown = window(b"first\n" + b"y" * (2 * WINDOW_BYTES) + b"\n")
    assert (shown.first, len(shown.lines), shown.has_earlier) == (2, 1, True)
    assert "more bytes on this line" in shown.lines[0]


def test_an_open_line_is_kept_apart_until_the_log_ends() -> None:
    live = window(b"done\n 40%\r 50%", ended=False)
    assert (live.lines, live.open, live.end) == (("done",), " 50%", 5)
    ended = window(b"done\n 40%\r 50%", ended=True)
    assert (ended.lines, ended.open, ended.end) == (("done", " 50%"), "", 14)


def test_a_line_by_its_number() -> None:
    data = b"".join(b"line %d\n" % number for number in range(1, 10_001))
    shown = window(data, line=5000)
    assert shown.first == 4950 and shown.lines[50] == "line 5000" and shown.has_earlier and shown.has_later
    beyond = window(data, line=10**15)
    assert beyond.lines == () and beyond.has_earlier
    assert window(data, line=0).first == 1
    assert window(data, before=10**15).last == 10_000
    assert window(data, before=0).lines == ()
