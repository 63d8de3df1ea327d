"""The log's way from job to store over real sockets: whole, once, in order, whatever happens on the way."""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from store_server import Serving, Store

from dstack.errors import Conflict, DstackError, OffsetMismatch
from dstack.wire.runner import MAX_LOG_CHUNK
from dstack_runner.content.http import HttpContent
from dstack_runner.logs import LogSender, LogWriter
from dstack_runner.mask import Masker
from dstack_runner.spool import Spool


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    spool = Spool(tmp_path / "log")
    yield spool
    spool.remove()


def stored(store: Store) -> bytes:
    return b"".join(store.logs.read("a1"))


def until(question: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not question():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


def sending(api: HttpContent, spool: Spool, **options: object) -> LogSender:
    sender = LogSender(api, spool, **options)  # type: ignore[arg-type]
    sender.start()
    return sender


def test_lines_arrive_while_the_job_runs_and_all_of_them_at_the_end(
    api: HttpContent, store: Store, spool: Spool
) -> None:
    sender = sending(api, spool)
    spool.append(b"first\n")
    until(lambda: stored(store) == b"first\n")
    spool.append(b"second\n")
    assert sender.drain(10)
    assert stored(store) == b"first\nsecond\n"
    assert sender.error is None


def test_the_first_line_does_not_wait(api: HttpContent, store: Store, spool: Spool) -> None:
    sender = sending(api, spool)
    api.put_log(0, b"")  # the connection is open
    began = time.monotonic()
    spool.append(b"x\n")
    until(lambda: store.logs.size("a1") == 2)
    assert time.monotonic() - began < 1
    sender.stop()


def test_many_small_lines_go_in_few_calls(api: HttpContent, store: Store, spool: Spool) -> None:
    calls: list[int] = []
    store.before = lambda request: calls.append(1)
    sender = sending(api, spool)
    digest = hashlib.sha256()
    for n in range(20_000):
        line = b"step %d\n" % n
        digest.update(line)
        spool.append(line)
    assert sender.drain(20)
    assert hashlib.sha256(stored(store)).digest() == digest.digest()
    assert len(calls) < 200


def test_a_single_line_larger_than_a_chunk(api: HttpContent, store: Store, spool: Spool) -> None:
    data = random.Random(1).randbytes(MAX_LOG_CHUNK) * 2 + b"end"
    spool.append(data)
    sender = sending(api, spool)
    assert sender.drain(30)
    assert hashlib.sha256(stored(store)).digest() == hashlib.sha256(data).digest()


def test_a_server_that_is_away_costs_nothing(api: HttpContent, store: Store, serving: Serving, spool: Spool) -> None:
    waits: list[DstackError] = []
    sender = sending(api, spool, on_wait=waits.append)
    spool.append(b"before\n")
    until(lambda: stored(store) == b"before\n")
    serving.stop()
    spool.append(b"while away\n")
    until(lambda: len(waits) >= 2)
    serving.start()
    spool.append(b"after\n")
    assert sender.drain(20)
    assert stored(store) == b"before\nwhile away\nafter\n"


def test_a_reply_that_was_lost_repeats_nothing(api: HttpContent, store: Store, spool: Spool) -> None:
    store.logs.append("a1", 0, b"one\ntw")  # these arrived, their reply did not
    spool.append(b"one\ntwo\n")
    sender = sending(api, spool)
    assert sender.drain(10)
    assert stored(store) == b"one\ntwo\n"


def test_a_server_restored_to_an_older_state_is_sent_the_rest_again(
    api: HttpContent, store: Store, spool: Spool
) -> None:
    sender = sending(api, spool)
    spool.append(b"0123456789")
    until(lambda: store.logs.size("a1") == 10)
    store.logs.delete("a1")
    store.logs.append("a1", 0, b"012")
    spool.append(b"abc")
    assert sender.drain(10)
    assert stored(store) == b"0123456789abc"


def test_a_server_unwell_is_tried_again(api: HttpContent, store: Store, spool: Spool) -> None:
    store.fail(3)
    spool.append(b"patience\n")
    sender = sending(api, spool)
    assert sender.drain(20)
    assert stored(store) == b"patience\n"


def test_a_lost_lease_ends_it_at_once(api: HttpContent, store: Store, spool: Spool) -> None:
    store.lose_lease()
    sender = sending(api, spool)
    spool.append(b"too late\n")
    assert not sender.drain(10)
    assert sender.lost
    assert stored(store) == b""


def test_other_bytes_in_the_store_end_it_with_a_word(api: HttpContent, store: Store, spool: Spool) -> None:
    store.logs.append("a1", 0, b"something else")
    spool.append(b"one\ntwo\n")
    sender = sending(api, spool)
    assert not sender.drain(10)
    assert isinstance(sender.error, Conflict)
    assert not isinstance(sender.error, OffsetMismatch)


def test_drain_ends_at_its_deadline_and_stop_ends_the_thread(api: HttpContent, serving: Serving, spool: Spool) -> None:
    serving.stop()
    sender = sending(api, spool)
    spool.append(b"x")
    assert not sender.drain(0.3)
    sender.stop()
    sender.stop()
    assert "log-sender" not in {thread.name for thread in threading.enumerate()}
    serving.start()


def test_a_sender_started_anew_goes_on_from_what_the_server_has(api: HttpContent, store: Store, tmp_path: Path) -> None:
    first = Spool(tmp_path / "kept")
    sender = sending(api, first)
    first.append(b"one\n")
    assert sender.drain(10)
    again = Spool(tmp_path / "kept")
    again.append(b"two\n")
    sender = sending(api, again, sent=again.size)  # more than the server has: it says where to go on
    again.append(b"three\n")
    assert sender.drain(10)
    assert stored(store) == b"one\ntwo\nthree\n"


def test_the_limit_is_visible_in_the_log(tmp_path: Path, api: HttpContent, store: Store) -> None:
    spool = Spool(tmp_path / "capped", limit=1000)
    sender = sending(api, spool)
    for _ in range(50):
        spool.append(b"x" * 99 + b"\n")
    assert sender.drain(10)
    assert spool.truncated
    text = stored(store)
    assert len(text) == spool.size == 1000
    assert text.endswith(b"[dstack] the log ends here: it reached its limit of 1000 bytes; the job goes on\n")
    assert Spool(tmp_path / "capped", limit=1000).truncated


def test_what_the_job_prints_is_masked_on_disk_already(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "log")
    writer = LogWriter(Masker(["hunter2-hunter2"]), spool)
    for n in range(0, 60, 7):
        writer.write(b"the password is hunter2-hunter2, and that is all there is\n\n\n"[n : n + 7])
    writer.say("step commands")
    writer.write(b"hunter2")
    writer.close()
    text = (tmp_path / "log").read_bytes()
    assert b"hunter2-hunter2" not in text
    assert text.startswith(b"the password is ***, and that is all")
    assert text.endswith(b"step commands\nhunter2")
    spool.remove()
    assert not (tmp_path / "log").exists()


def test_many_writers_and_a_reader_agree(spool: Spool) -> None:
    def write(n: int) -> None:
        for k in range(200):
            spool.append(b"%02d-%03d\n" % (n, k))

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    read = b""
    while len(read) < 4 * 200 * 7:
        assert spool.wait_beyond(len(read), 5)
        read += spool.read(len(read), 1000)
    for thread in threads:
        thread.join()
    lines = read.split(b"\n")[:-1]
    assert sorted(lines) == sorted(b"%02d-%03d" % (n, k) for n in range(4) for k in range(200))
    assert not spool.wait_beyond(len(read), 0.01)
