"""Sends an artifact: asks which blobs the store lacks, sends those, then makes the artifact visible.

Small blobs travel in packs, large ones alone, a few at once. A repetition after a crash of either side asks again and
sends only what is still missing, so nothing is ever half visible and an artifact already there costs one question.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from dstack.errors import DstackError, Invalid
from dstack.wire.manifest import FileEntry
from dstack.wire.pack import HEAD_BYTES, write_pack
from dstack.wire.runner import MAX_PACK_BYTES, SMALL_BLOB_BYTES, ArtifactSaved, SaveArtifact
from dstack_runner.content.api import ContentApi
from dstack_runner.content.beneath import open_file, open_root, opened
from dstack_runner.content.scan import Scan
from dstack_runner.server import persist

CONNECTIONS = 4
PACK_BYTES = 16 * 1024 * 1024  # four at once are in memory on this side; the server syncs once for each
QUESTION = 20_000  # digests asked for at once, and blobs in a pack
ROUNDS = 3  # a blob may be pruned between question and save, once

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Saved:
    """`sent` counts bytes of content; 0 when the store had all of it."""

    artifact: ArtifactSaved
    sent: int


def save(
    api: ContentApi,
    scan: Scan,
    *,
    give_up: threading.Event | None = None,
    on_sent: Callable[[int], None] = lambda count: None,
    on_wait: Callable[[DstackError], None] = lambda error: None,
) -> Saved:
    """Store what was scanned. Waits for a server that is away until `give_up` is set.

    `on_sent` is told of content bytes as they are stored, from several threads. Raises LeaseLost; Invalid when a file
    changed since the scan; the last error of the server when it was given up.
    """
    sender = _Sender(api, scan, give_up or threading.Event(), on_sent, on_wait)
    artifact = SaveArtifact(scan.spec, scan.manifest.encode().decode(), scan.skipped)
    for round_ in range(ROUNDS):
        sender.send(sender.missing())
        try:
            return Saved(sender.patiently(lambda: api.save_artifact(artifact)), sender.sent)
        except Invalid:
            if round_ == ROUNDS - 1 or not sender.missing():
                raise
    raise AssertionError("the last round returns or raises")


def packs(entries: Iterable[FileEntry], limit: int = PACK_BYTES, most: int = QUESTION) -> Iterator[list[FileEntry]]:
    """Small files in groups that each fit a pack of at most `limit` bytes and `most` blobs."""
    group: list[FileEntry] = []
    held = 2 * HEAD_BYTES
    for entry in entries:
        cost = HEAD_BYTES + entry.size
        if group and (held + cost > limit or len(group) >= most):
            yield group
            group, held = [], 2 * HEAD_BYTES
        group.append(entry)
        held += cost
    if group:
        yield group


class _Sender:
    """One save: what it talks to, and how much content went out."""

    def __init__(
        self,
        api: ContentApi,
        scan: Scan,
        give_up: threading.Event,
        on_sent: Callable[[int], None],
        on_wait: Callable[[DstackError], None],
    ) -> None:
        self._api = api
        self._root = scan.root
        self._blobs = {f.digest: f for f in scan.manifest.files if f.target is None}
        self._give_up = give_up
        self._stop = threading.Event()  # one blob failed for good: the others need not go on
        self._on_sent = on_sent
        self._on_wait = on_wait
        self._lock = threading.Lock()
        self.sent = 0

    def patiently(self, call: Callable[[], T]) -> T:
        return persist(call, self._give_up, on_wait=self._on_wait)

    def missing(self) -> list[FileEntry]:
        digests = list(self._blobs)
        lacking: set[str] = set()
        for at in range(0, len(digests), QUESTION):
            part = digests[at : at + QUESTION]
            lacking |= self.patiently(partial(self._api.missing, part))
        return [entry for digest, entry in self._blobs.items() if digest in lacking]

    def send(self, entries: Sequence[FileEntry]) -> None:
        large = [entry for entry in entries if entry.size > SMALL_BLOB_BYTES]
        small = [entry for entry in entries if entry.size <= SMALL_BLOB_BYTES]
        if not entries:
            return
        with opened(open_root(self._root)) as root_fd, ThreadPoolExecutor(CONNECTIONS, "save") as pool:
            jobs = [pool.submit(self._send_blob, root_fd, entry) for entry in large]
            jobs += [pool.submit(self._send_pack, root_fd, group) for group in packs(small)]
            done, waiting = wait(jobs, return_when=FIRST_EXCEPTION)
            if waiting:
                self._stop.set()
                for job in waiting:
                    job.cancel()
            for job in done:
                job.result()

    def _send_blob(self, root_fd: int, entry: FileEntry) -> None:
        def put() -> None:
            with opened(open_file(root_fd, entry.path)) as fd, open(fd, "rb", buffering=0, closefd=False) as file:
                if os.fstat(fd).st_size != entry.size:
                    raise _changed(entry)
                self._api.put_blob(entry.digest, file, entry.size)

        self._go_on()
        self.patiently(put)
        self._count(entry.size)

    def _send_pack(self, root_fd: int, group: list[FileEntry]) -> None:
        self._go_on()
        pack = write_pack((entry.digest, _read(root_fd, entry)) for entry in group)
        assert len(pack) <= MAX_PACK_BYTES
        self.patiently(lambda: self._api.put_pack(pack))
        self._count(sum(entry.size for entry in group))

    def _go_on(self) -> None:
        if self._stop.is_set():
            raise Invalid("another file of the artifact could not be stored")

    def _count(self, size: int) -> None:
        with self._lock:
            self.sent += size
        self._on_sent(size)


def _read(root_fd: int, entry: FileEntry) -> bytes:
    with opened(open_file(root_fd, entry.path)) as fd, open(fd, "rb", buffering=0, closefd=False) as file:
        data = file.read(entry.size + 1)
        if len(data) != entry.size or hashlib.sha256(data).hexdigest() != entry.digest:
            raise _changed(entry)
        return data


def _changed(entry: FileEntry) -> Invalid:
    return Invalid(f"{entry.path!r} changed while it was saved", "something of the job still writes it")
