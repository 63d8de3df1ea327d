"""The runner's own copy of blobs, by digest: `blobs/DIGEST[:2]/DIGEST`, read-only, checked as they enter.

It belongs to the runner's user alone (mode 0700); jobs reach blobs only through `mount.py`. An executable twin is kept
as `DIGEST.x`, since a hard link shares its mode. Nothing here is synced: a cache may be lost. After the machine went
down, entries from before are hashed again at their first use instead.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dstack.errors import Invalid
from dstack.wire.manifest import FileEntry, is_digest
from dstack_runner.content.copying import copy_file

READ_ONLY = 0o444
READ_ONLY_EXECUTABLE = 0o555
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_PIECE = 1024 * 1024


class BlobCache:
    """One folder of blobs, used by one runner process; all calls may run at once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._blobs = root / "blobs"
        self._incoming = root / "incoming"
        self._lock = threading.Lock()
        self._held: Counter[str] = Counter()
        self._serial = itertools.count()
        self._incoming.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._blobs.mkdir(mode=0o700, exist_ok=True)
        root.chmod(0o700)
        for left in self._incoming.iterdir():
            left.unlink()
        self._suspect_before = self._since_boot()

    def has(self, digest: str) -> bool:
        """Whether the blob is here and can be trusted; counts as a use."""
        path = self._path(digest)
        try:
            if path.stat().st_mtime < self._suspect_before and not self._is_whole(path, digest):
                path.unlink(missing_ok=True)
                return False
            os.utime(path)
        except FileNotFoundError:
            return False
        return True

    def add(self, digest: str, pieces: Iterable[bytes]) -> int:
        """Take a blob in; its size. Raises Invalid when the bytes are not what the digest says: nothing is kept."""
        temporary = self._temporary()
        try:
            size = _write(temporary, digest, pieces)
            temporary.rename(self._made(self._path(digest)))
        finally:
            temporary.unlink(missing_ok=True)
        return size

    def path(self, digest: str, *, executable: bool = False) -> Path:
        """Where a blob lies, with the mode asked for. The caller holds it, and it `has` been seen here."""
        plain = self._path(digest)
        if not executable:
            return plain
        twin = plain.with_name(f"{digest}.x")
        try:
            if twin.stat().st_mtime >= self._suspect_before:
                return twin
        except FileNotFoundError:
            pass  # the first use of this blob as a program
        temporary = self._temporary()
        copy_file(plain, temporary, READ_ONLY_EXECUTABLE)
        temporary.rename(twin)
        return twin

    @contextmanager
    def hold(self, entries: Iterable[FileEntry]) -> Iterator[None]:
        """Keep these blobs from eviction, also those that only come in meanwhile."""
        digests = {entry.digest for entry in entries if entry.target is None}
        with self._lock:
            self._held.update(digests)
        try:
            yield
        finally:
            with self._lock:
                self._held.subtract(digests)
                self._held += Counter()  # drops those at zero

    def evict(self, limit: int) -> int:
        """Remove the longest unused blobs until at most `limit` bytes are left; the bytes freed. Held ones stay.

        What jobs have mounted stays on the disk until their workspaces go: only the name is removed here.
        """
        found = [(info.st_mtime, info.st_size, path) for path in self._blobs.glob("*/*") if (info := path.stat())]
        total, freed = sum(size for _, size, _ in found), 0
        for _, size, path in sorted(found):
            if total - freed <= limit:
                break
            with self._lock:
                if self._held[path.name.partition(".")[0]] == 0:
                    path.unlink()
                    freed += size
        return freed

    def _path(self, digest: str) -> Path:
        if not is_digest(digest):
            raise Invalid(f"{digest[:80]!r} is not a digest")
        return self._blobs / digest[:2] / digest

    def _made(self, path: Path) -> Path:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        return path

    def _temporary(self) -> Path:
        return self._incoming / str(next(self._serial))

    def _is_whole(self, path: Path, digest: str) -> bool:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == digest

    def _since_boot(self) -> float:
        """Entries changed before this time (seconds since the epoch) were written before the machine last went down."""
        note = self.root / "boot"
        boot = _BOOT_ID.read_text().strip() if _BOOT_ID.exists() else f"unknown-{time.time_ns()}"
        if note.exists():
            known, _, since = note.read_text().partition(" ")
            if known == boot:
                return float(since)
        since_now = time.time()
        note.write_text(f"{boot} {since_now}")
        return since_now


def _write(path: Path, digest: str, pieces: Iterable[bytes]) -> int:
    hashed, size = hashlib.sha256(), 0
    with path.open("xb", buffering=0) as file:
        for piece in pieces:
            view = memoryview(piece)
            while view:
                view = view[file.write(view) :]
            hashed.update(piece)
            size += len(piece)
        os.fchmod(file.fileno(), READ_ONLY)
    if hashed.hexdigest() != digest:
        raise Invalid(f"the server sent other bytes for blob {digest}", "its store or the connection is damaged")
    return size
