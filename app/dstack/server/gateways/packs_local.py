"""Small blobs in pack files: one file made and synced for thousands of blobs, and an index that tells where each lies.

A file a blob would cost as much per kilobyte as per megabyte: making a file is the dear part. A pack file is the pack
of `dstack.wire.pack` as it stands, so the index (an SQLite file beside them) can be built again from the packs alone.
A deleted blob leaves the index at once; its bytes leave when the pack is rewritten, once half of it is dead.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from dstack.errors import Unavailable
from dstack.server.gateways.disk import disk, sync_folder, write_all
from dstack.server.gateways.ports import READ_BYTES, StoredBlob
from dstack.wire.pack import HEAD_BYTES, MAGIC, PackReader, pack_end, pack_record

_TABLES = """
CREATE TABLE IF NOT EXISTS blob (
  digest TEXT PRIMARY KEY, pack TEXT NOT NULL, start INTEGER NOT NULL, size INTEGER NOT NULL, used_at REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS blob_pack ON blob (pack);
"""
_AT_ONCE = 500  # names in one query


@dataclass(frozen=True, slots=True)
class Place:
    """Where a small blob lies."""

    pack: Path
    start: int
    size: int


class LocalPacks:
    """The pack files of one folder, used by this process alone; one connection to the index, behind one lock."""

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        index = root / "index.sqlite"
        fresh = not index.exists()
        self._lock = threading.Lock()
        self._index = sqlite3.connect(index, check_same_thread=False, isolation_level=None)
        self._index.execute("PRAGMA journal_mode = WAL")
        self._index.execute("PRAGMA synchronous = FULL")
        self._index.executescript(_TABLES)
        if fresh:
            self._rebuild()

    def held(self, digests: Iterable[str]) -> set[str]:
        """Those that are here; they count as used now."""
        found: set[str] = set()
        names, now = list(digests), time.time()
        with self._transaction() as index:
            for at in range(0, len(names), _AT_ONCE):
                part = names[at : at + _AT_ONCE]
                marks = ",".join("?" * len(part))
                rows = index.execute(
                    f"UPDATE blob SET used_at = ? WHERE digest IN ({marks}) RETURNING digest",  # noqa: S608
                    (now, *part),
                )
                found.update(digest for (digest,) in rows)
        return found

    def find(self, digest: str) -> Place | None:
        """Where a blob lies now; a rewrite may move it."""
        with self._lock:
            row = self._index.execute("SELECT pack, start, size FROM blob WHERE digest = ?", (digest,)).fetchone()
        return Place(self._root / row[0], row[1], row[2]) if row else None

    def delete(self, digest: str, unused_since: float) -> int:
        """The bytes that a later sweep frees; 0 for a blob used at or after `unused_since`."""
        with self._transaction() as index:
            rows = index.execute(
                "DELETE FROM blob WHERE digest = ? AND used_at < ? RETURNING size", (digest, unused_since)
            ).fetchall()
        return int(rows[0][0]) if rows else 0

    def stored(self) -> Iterator[StoredBlob]:
        last = ""
        while True:
            with self._lock:
                rows = self._index.execute(
                    "SELECT digest, size, used_at FROM blob WHERE digest > ? ORDER BY digest LIMIT 1000", (last,)
                ).fetchall()
            if not rows:
                return
            yield from (StoredBlob(*row) for row in rows)
            last = rows[-1][0]

    def new_file(self) -> Path:
        """The name of a pack being written."""
        return self._root / f"{uuid.uuid4().hex}.tmp"

    def publish(self, written: Path) -> None:
        """Give a whole, synced pack its lasting name. Its blobs are visible once the index has them."""
        written.rename(written.with_suffix(".pack"))
        sync_folder(self._root)

    def add(self, written: Path, places: dict[str, tuple[int, int]]) -> int:
        """Take a published pack in: digest -> (start, size); how many blobs were new."""
        pack = written.with_suffix(".pack")
        now = time.time()
        with self._transaction() as index:
            before = index.total_changes
            index.executemany(
                "INSERT OR IGNORE INTO blob VALUES (?, ?, ?, ?, ?)",
                [(digest, pack.name, start, size, now) for digest, (start, size) in places.items()],
            )
            new = index.total_changes - before
        if new == 0:
            pack.unlink()  # sent twice: the reply to the first was lost
        return new

    def sweep(self, older_than: float) -> int:
        """Remove unfinished and dead packs, rewrite those that are half dead; the bytes of unfinished ones."""
        freed = 0
        for path in [*self._root.glob("*.tmp"), *self._root.glob("*.pack")]:
            info = path.stat()
            if info.st_mtime < older_than:
                alive = self._alive(path.name)
                if alive * 2 <= info.st_size:
                    self._rewrite(path)
                    freed += info.st_size if path.suffix == ".tmp" else 0
        return freed

    def close(self) -> None:
        with self._lock:
            self._index.close()

    def _alive(self, pack: str) -> int:
        with self._lock:
            row = self._index.execute("SELECT count(*), total(size) FROM blob WHERE pack = ?", (pack,)).fetchone()
        return int(row[1]) + int(row[0]) * HEAD_BYTES

    def _rewrite(self, path: Path) -> None:
        """Move what is alive of a pack into a new one, if anything is."""
        with self._lock:
            rows = self._index.execute(
                "SELECT digest, start, size FROM blob WHERE pack = ? ORDER BY start", (path.name,)
            ).fetchall()
        if rows:
            with path.open("rb") as old, PackFile(self) as new:
                for digest, start, length in rows:
                    old.seek(start)
                    new.add(digest, old.read(length))
                new.move()
        path.unlink()

    def move(self, written: Path, places: dict[str, tuple[int, int]]) -> None:
        """Take a published pack in whose blobs are here already: from now on they lie in it."""
        pack = written.with_suffix(".pack")
        with self._transaction() as index:
            index.executemany(
                "UPDATE blob SET pack = ?, start = ? WHERE digest = ?",
                [(pack.name, start, digest) for digest, (start, _) in places.items()],
            )

    def _rebuild(self) -> None:
        now = time.time()
        for path in self._root.glob("*.pack"):
            reader, at, rows = PackReader(), len(MAGIC), []
            with path.open("rb") as file:
                while data := file.read(READ_BYTES):
                    for digest, content in reader.feed(data):
                        at += HEAD_BYTES
                        rows.append((digest, path.name, at, len(content), now))
                        at += len(content)
            with self._transaction() as index:
                index.executemany("INSERT OR IGNORE INTO blob VALUES (?, ?, ?, ?, ?)", rows)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                self._index.execute("BEGIN IMMEDIATE")
                yield self._index
                self._index.execute("COMMIT")
            except sqlite3.OperationalError as error:
                raise Unavailable(
                    f"the index of {self._root} cannot be written: {error}", "is the disk full?"
                ) from error
            finally:
                if self._index.in_transaction:
                    self._index.execute("ROLLBACK")


class PackFile:
    """One pack on its way to the disk: the `PackWriter` of this store. Its file is made with the first blob."""

    def __init__(self, packs: LocalPacks) -> None:
        self._packs = packs
        self._path = packs.new_file()
        self._fd = -1
        self._at = len(MAGIC)
        self._places: dict[str, tuple[int, int]] = {}

    def add(self, digest: str, data: bytes) -> None:
        if digest in self._places:
            return
        with disk(self._path.parent):
            if self._fd < 0:
                self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                write_all(self._fd, MAGIC)
            write_all(self._fd, pack_record(digest, data))
        self._places[digest] = (self._at + HEAD_BYTES, len(data))
        self._at += HEAD_BYTES + len(data)

    def commit(self) -> int:
        with disk(self._path.parent):
            return self._packs.add(self._path, self._places) if self._finish() else 0

    def move(self) -> None:
        """Commit blobs that another pack holds too: from now on they lie here."""
        with disk(self._path.parent):
            if self._finish():
                self._packs.move(self._path, self._places)

    def abort(self) -> None:
        if self._fd >= 0:
            self._close()
            self._path.unlink(missing_ok=True)

    def _finish(self) -> bool:
        """Write the end and sync; False when there is nothing to keep."""
        if self._fd < 0:
            return False
        write_all(self._fd, pack_end(len(self._places)))
        os.fdatasync(self._fd)
        self._packs.publish(self._path)
        self._close()
        return True

    def _close(self) -> None:
        os.close(self._fd)
        self._fd = -1

    def __enter__(self) -> PackFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.abort()
