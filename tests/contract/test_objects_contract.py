"""What every place for blobs must do. A new one joins by a line in `STORES`."""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dstack.errors import Invalid, NotFound, Unavailable
from dstack.server.gateways.objects_local import LocalObjects
from dstack.server.gateways.ports import READ_BYTES, Objects

STORES: dict[str, Callable[[Path], Objects]] = {"local": lambda folder: LocalObjects(folder / "objects")}


@pytest.fixture(params=sorted(STORES))
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Objects:
    return STORES[request.param](tmp_path)


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def read_all(objects: Objects, digest: str, start: int = 0, end: int | None = None) -> bytes:
    return b"".join(objects.read(digest, start, end))


def test_a_blob_is_read_back_as_it_was_written(objects: Objects) -> None:
    data = random.Random(1).randbytes(3 * READ_BYTES + 17)
    writer = objects.writer(digest_of(data), len(data))
    for at in range(0, len(data), 700_001):
        writer.write(data[at : at + 700_001])
    assert writer.commit() == len(data)
    objects.sync()
    assert objects.size(digest_of(data)) == len(data)
    assert read_all(objects, digest_of(data)) == data
    assert all(len(piece) <= READ_BYTES for piece in objects.read(digest_of(data)))


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [(0, 0, b""), (2, 5, b"cde"), (4, None, b"efgh"), (0, 99, b"abcdefgh"), (8, None, b"")],
)
def test_a_span_is_read(objects: Objects, start: int, end: int | None, expected: bytes) -> None:
    objects.put(digest_of(b"abcdefgh"), b"abcdefgh")
    assert read_all(objects, digest_of(b"abcdefgh"), start, end) == expected


def test_the_empty_blob_is_a_blob(objects: Objects) -> None:
    objects.put(digest_of(b""), b"")
    assert objects.missing([digest_of(b"")]) == []
    assert read_all(objects, digest_of(b"")) == b""


def test_nothing_is_visible_before_commit(objects: Objects) -> None:
    digest = digest_of(b"half")
    writer = objects.writer(digest, 4)
    writer.write(b"half")
    assert objects.missing([digest]) == [digest]
    with pytest.raises(NotFound):
        objects.read(digest)
    writer.abort()
    writer.abort()
    assert objects.missing([digest]) == [digest]
    assert list(objects.stored()) == []


@pytest.mark.parametrize(("announced", "sent"), [(4, b"hal"), (4, b"halff"), (4, b"calf"), (0, b"x")])
def test_a_wrong_size_or_digest_stays_invisible(objects: Objects, announced: int, sent: bytes) -> None:
    digest = digest_of(b"half")
    writer = objects.writer(digest, announced)
    with pytest.raises(Invalid):
        writer.write(sent)
        writer.commit()
    writer.abort()
    assert objects.missing([digest]) == [digest]
    assert objects.sweep(time.time() + 60) == 0, "an aborted writer leaves nothing behind"


def test_missing_keeps_the_order_and_answers_once(objects: Objects) -> None:
    objects.put(digest_of(b"a"), b"a")
    b, c = digest_of(b"b"), digest_of(b"c")
    assert objects.missing([c, digest_of(b"a"), b, c]) == [c, b]


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "A" * 64, "a" * 63, "a" * 65, "\0" * 64, "incoming"])
def test_what_is_no_digest_is_refused(objects: Objects, name: str) -> None:
    for call in (objects.size, objects.read, objects.delete, lambda d: objects.missing([d])):
        with pytest.raises(Invalid):
            call(name)
    with pytest.raises(Invalid):
        objects.writer(name, 1)


def test_a_pack_becomes_visible_whole(objects: Objects) -> None:
    blobs = {digest_of(data): data for data in (b"", b"one", b"two" * 1000)}
    pack = objects.pack_writer()
    for digest, data in blobs.items():
        pack.add(digest, data)
        pack.add(digest, data)
    assert objects.missing(blobs) == list(blobs)
    assert pack.commit() == 3
    assert objects.missing(blobs) == []
    assert all(read_all(objects, digest) == data for digest, data in blobs.items())
    again = objects.pack_writer()
    for digest, data in blobs.items():
        again.add(digest, data)
    assert again.commit() == 0


def test_an_aborted_pack_leaves_nothing(objects: Objects) -> None:
    pack = objects.pack_writer()
    pack.add(digest_of(b"one"), b"one")
    pack.abort()
    pack.abort()
    assert list(objects.stored()) == []
    assert objects.sweep(time.time() + 60) == 0


def test_stored_delete_and_used_at(objects: Objects) -> None:
    before = time.time() - 2
    objects.put(digest_of(b"one"), b"one")
    (blob,) = objects.stored()
    assert (blob.digest, blob.size) == (digest_of(b"one"), 3)
    assert before <= blob.used_at <= time.time() + 2
    assert objects.delete(blob.digest) == 3
    assert objects.delete(blob.digest) == 0
    with pytest.raises(NotFound):
        objects.size(blob.digest)


@pytest.mark.parametrize("small", [True, False])
def test_a_blob_used_lately_is_not_deleted(objects: Objects, small: bool) -> None:
    if small:
        pack = objects.pack_writer()
        pack.add(digest_of(b"one"), b"one")
        pack.commit()
    else:
        objects.put(digest_of(b"one"), b"one")
    assert objects.delete(digest_of(b"one"), unused_since=time.time() - 60) == 0
    assert objects.missing([digest_of(b"one")]) == []
    assert objects.delete(digest_of(b"one"), unused_since=time.time() + 60) == 3
    assert objects.missing([digest_of(b"one")]) == [digest_of(b"one")]


def test_a_reader_goes_on_when_its_blob_is_deleted(objects: Objects) -> None:
    data = random.Random(2).randbytes(3 * READ_BYTES)
    objects.put(digest_of(data), data)
    pieces = objects.read(digest_of(data))
    first = next(pieces)
    objects.delete(digest_of(data))
    assert first + b"".join(pieces) == data


def test_many_writers_of_one_blob_agree(objects: Objects) -> None:
    data = random.Random(3).randbytes(100_000)
    failures: list[BaseException] = []

    def write() -> None:
        try:
            objects.put(digest_of(data), data)
            pack = objects.pack_writer()
            pack.add(digest_of(data[:9]), data[:9])
            pack.commit()
        except Exception as error:  # noqa: BLE001  (any failure of a thread is the test's)
            failures.append(error)

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert read_all(objects, digest_of(data)) == data
    assert len(list(objects.stored())) == 2


def test_sweep_removes_what_dead_writers_left(tmp_path: Path) -> None:
    objects = LocalObjects(tmp_path / "objects")
    writer = objects.writer(digest_of(b"half"), 4)
    writer.write(b"ha")
    (tmp_path / "objects" / "packs" / "0123.tmp").write_bytes(b"one")
    reopened = LocalObjects(tmp_path / "objects")
    assert reopened.sweep(time.time() - 60) == 0
    assert reopened.sweep(time.time() + 60) == 5
    assert reopened.sweep(time.time() + 60) == 0
    assert list((tmp_path / "objects" / "incoming").iterdir()) == []


def test_a_full_disk_is_said_and_changes_nothing(tmp_path: Path, small_disk: Path) -> None:
    objects = LocalObjects(small_disk / "objects")
    data = random.Random(4).randbytes(8 * 1024 * 1024)
    writer = objects.writer(digest_of(data), len(data))
    with pytest.raises(Unavailable, match="is full"):
        writer.write(data)
    writer.abort()
    assert objects.missing([digest_of(data)]) == [digest_of(data)]
    objects.put(digest_of(b"small"), b"small")
    assert read_all(objects, digest_of(b"small")) == b"small"


def packed(objects: Objects, *blobs: bytes) -> list[str]:
    pack = objects.pack_writer()
    for blob in blobs:
        pack.add(digest_of(blob), blob)
    pack.commit()
    return [digest_of(blob) for blob in blobs]


def test_a_pack_that_is_mostly_dead_is_rewritten(tmp_path: Path) -> None:
    objects = LocalObjects(tmp_path / "objects")
    blobs = [bytes([n]) * 1000 for n in range(10)]
    digests = packed(objects, *blobs)
    reader = objects.read(digests[9])
    assert objects.sweep(time.time() + 60) == 0
    for digest in digests[:8]:
        assert objects.delete(digest) == 1000
    before = sum(path.stat().st_size for path in (tmp_path / "objects" / "packs").glob("*.pack"))
    assert objects.sweep(time.time() + 60) == 0, "their bytes were told by delete"
    after = sum(path.stat().st_size for path in (tmp_path / "objects" / "packs").glob("*.pack"))
    assert (before > 10_000, after < 3000) == (True, True)
    assert objects.missing(digests) == digests[:8]
    assert [read_all(objects, digest) for digest in digests[8:]] == blobs[8:]
    assert b"".join(reader) == blobs[9]
    assert len(list((tmp_path / "objects" / "packs").glob("*.pack"))) == 1
    for digest in digests[8:]:
        objects.delete(digest)
    objects.sweep(time.time() + 60)
    assert list((tmp_path / "objects" / "packs").glob("*.pack")) == []


def test_reading_goes_on_while_packs_are_rewritten(tmp_path: Path) -> None:
    objects = LocalObjects(tmp_path / "objects")
    digests = packed(objects, *(bytes([n]) * 500 for n in range(200)))
    stop = threading.Event()

    def shrink() -> None:
        for n in range(190):
            objects.delete(digests[n])
            objects.sweep(time.time() + 60)
        stop.set()

    thread = threading.Thread(target=shrink)
    thread.start()
    while not stop.is_set():
        for n in range(190, 200):
            assert read_all(objects, digests[n]) == bytes([n]) * 500
    thread.join()


def test_the_index_of_packs_is_built_again_from_the_packs(tmp_path: Path) -> None:
    objects = LocalObjects(tmp_path / "objects")
    first = packed(objects, b"one", b"", b"x" * 100_000)
    second = packed(objects, b"two")
    objects.close()
    for path in (tmp_path / "objects" / "packs").glob("index.sqlite*"):
        path.unlink()
    again = LocalObjects(tmp_path / "objects")
    assert again.missing([*first, *second]) == []
    assert [read_all(again, digest) for digest in first] == [b"one", b"", b"x" * 100_000]


def test_a_pack_sent_twice_takes_its_room_once(tmp_path: Path) -> None:
    objects = LocalObjects(tmp_path / "objects")
    packed(objects, b"one", b"two")
    packed(objects, b"two", b"one")
    assert len(list((tmp_path / "objects" / "packs").glob("*.pack"))) == 1


def test_a_full_disk_leaves_no_half_pack(small_disk: Path) -> None:
    objects = LocalObjects(small_disk / "objects")
    blobs = [bytes([n]) * 250_000 for n in range(30)]
    with pytest.raises(Unavailable, match="is full"):
        pack = objects.pack_writer()
        try:
            for blob in blobs:
                pack.add(digest_of(blob), blob)
            pack.commit()
        finally:
            pack.abort()
    assert len(objects.missing(map(digest_of, blobs))) == 30
    assert packed(objects, b"small") == [digest_of(b"small")]
    assert read_all(objects, digest_of(b"small")) == b"small"
