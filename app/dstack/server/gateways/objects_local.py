"""Blobs on this machine's disk: large ones as files `DIGEST[:2]/DIGEST`, small ones in packs (`packs_local.py`).

A file is written under `incoming/`, synced, and renamed when whole and checked, so nothing else is ever visible. Names
become durable with `sync`, called once per artifact.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType

from dstack.errors import Invalid, NotFound
from dstack.server.gateways.disk import disk, read_span, sync_filesystem, write_all
from dstack.server.gateways.packs_local import LocalPacks, PackFile
from dstack.server.gateways.ports import StoredBlob
from dstack.wire.manifest import is_digest

_SHARDS = [f"{n:02x}" for n in range(256)]


class LocalObjects:
    """The `Objects` port over a folder that belongs to this process alone."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._incoming = root / "incoming"
        self._serial = itertools.count()
        self._using = threading.Lock()
        self._packs = LocalPacks(root / "packs")
        self._incoming.mkdir(mode=0o700, parents=True, exist_ok=True)

    def missing(self, digests: Iterable[str]) -> list[str]:
        asked = {digest: self.path_of(digest) for digest in digests}
        held = self._packs.held(asked)
        with self._using:  # `delete` asks and removes under it too
            return [digest for digest, path in asked.items() if digest not in held and not _touch(path)]

    def size(self, digest: str) -> int:
        path = self.path_of(digest)
        if place := self._packs.find(digest):
            return place.size
        try:
            return path.stat().st_size
        except FileNotFoundError:
            raise _no_blob(digest) from None

    def read(self, digest: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        path = self.path_of(digest)
        with disk(self._root):
            for _ in range(3):
                place = self._packs.find(digest)
                try:
                    fd = os.open(place.pack if place else path, os.O_RDONLY | os.O_CLOEXEC)
                except FileNotFoundError:
                    if place is None:
                        break
                    continue  # its pack was rewritten between the two steps: it lies elsewhere now
                base, size = (place.start, place.size) if place else (0, os.fstat(fd).st_size)
                return read_span(fd, base + start, base + min(size, size if end is None else end))
        raise _no_blob(digest)

    def writer(self, digest: str, size: int) -> LocalBlobWriter:
        return LocalBlobWriter(self._root, self.path_of(digest), self._temporary(), size)

    def pack_writer(self) -> PackFile:
        return PackFile(self._packs)

    def put(self, digest: str, data: bytes) -> None:
        with self.writer(digest, len(data)) as writer:
            writer.write(data)
            writer.commit()

    def sync(self) -> None:
        with disk(self._root):
            sync_filesystem(self._root)

    def delete(self, digest: str, unused_since: float | None = None) -> int:
        path, limit = self.path_of(digest), float("inf") if unused_since is None else unused_since
        freed = self._packs.delete(digest, limit)
        with self._using:
            try:
                info = path.stat()
                if info.st_mtime < limit:
                    path.unlink()
                    freed += info.st_size
            except FileNotFoundError:
                pass  # it lay in a pack, or nowhere
        return freed

    def stored(self) -> Iterator[StoredBlob]:
        yield from self._packs.stored()
        for shard in filter(Path.is_dir, (self._root / name for name in _SHARDS)):
            with os.scandir(shard) as entries:
                for entry in entries:
                    stat = entry.stat(follow_symlinks=False)
                    yield StoredBlob(entry.name, stat.st_size, stat.st_mtime)

    def sweep(self, older_than: float) -> int:
        freed = self._packs.sweep(older_than)
        for path in self._incoming.iterdir():
            stat = path.stat()
            if stat.st_mtime < older_than:
                path.unlink(missing_ok=True)
                freed += stat.st_size
        return freed

    def close(self) -> None:
        """Let go of the index. Nothing is used afterwards."""
        self._packs.close()

    def path_of(self, digest: str) -> Path:
        """Where a blob lies or will lie. Raises Invalid for what is no digest: nothing outside is ever named."""
        if not is_digest(digest):
            raise Invalid(f"{digest[:80]!r} is not a digest", "a digest is 64 lower-case hexadecimal characters")
        return Path(f"{self._root}/{digest[:2]}/{digest}")

    def _temporary(self) -> Path:
        return self._incoming / f"{os.getpid()}-{time.time_ns()}-{next(self._serial)}"


class LocalBlobWriter:
    """One blob into one file: hashed as it comes, synced, then renamed to its digest."""

    def __init__(self, root: Path, target: Path, temporary: Path, size: int) -> None:
        self._root = root
        self._target = target
        self._temporary = temporary
        self._size = size
        self._written = 0
        self._hash = hashlib.sha256()
        with disk(root):
            self._fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)

    def write(self, data: bytes) -> None:
        self._written += len(data)
        if self._written > self._size:
            raise Invalid(f"the blob is longer than the {self._size} bytes announced")
        self._hash.update(data)
        with disk(self._root):
            write_all(self._fd, data)

    def commit(self) -> int:
        digest = self._target.name
        if self._written != self._size:
            raise Invalid(f"blob {digest} has {self._written} bytes, {self._size} were announced")
        if self._hash.hexdigest() != digest:
            raise Invalid(
                f"the bytes of blob {digest} have another digest", "it changed while it was sent; save it again"
            )
        with disk(self._root):
            os.fdatasync(self._fd)
            self._close()
            # Made as it is needed: all 256 of them would cost a first start 50 ms.
            self._target.parent.mkdir(mode=0o700, exist_ok=True)
            self._temporary.rename(self._target)
        return self._size

    def abort(self) -> None:
        self._close()
        self._temporary.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> LocalBlobWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.abort()


def _touch(path: Path) -> bool:
    """Count a file as used now; False where there is none."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    return True


def _no_blob(digest: str) -> NotFound:
    return NotFound(f"there is no blob {digest}", "it was never stored or has been pruned")
