"""Blobs as files of a folder: `DIGEST[:2]/DIGEST`, written under `incoming/` and renamed when whole and on the disk.

One file a blob keeps deletion a plain unlink. Large blobs are synced one by one; a pack of small ones by one `syncfs`,
which costs as much for ten thousand as for one. Names become durable with `sync`, called once per artifact.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType

from dstack.errors import Invalid, NotFound
from dstack.server.gateways.disk import disk, sync_filesystem
from dstack.server.gateways.ports import READ_BYTES, StoredBlob
from dstack.wire.manifest import is_digest

_SHARDS = [f"{n:02x}" for n in range(256)]


class LocalObjects:
    """The `Objects` port over a folder that belongs to this process alone."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._incoming = root / "incoming"
        self._serial = itertools.count()
        for name in ("incoming", *_SHARDS):
            (root / name).mkdir(mode=0o700, parents=True, exist_ok=True)

    def missing(self, digests: Iterable[str]) -> list[str]:
        return [digest for digest in dict.fromkeys(digests) if not self._touch(digest)]

    def size(self, digest: str) -> int:
        try:
            return self.path_of(digest).stat().st_size
        except FileNotFoundError:
            raise _no_blob(digest) from None

    def read(self, digest: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        try:
            with disk(self._root):
                fd = os.open(self.path_of(digest), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise _no_blob(digest) from None
        return read_span(fd, start, end)

    def writer(self, digest: str, size: int) -> LocalBlobWriter:
        return LocalBlobWriter(self._root, self.path_of(digest), self._temporary(), size)

    def pack_writer(self) -> LocalPackWriter:
        return LocalPackWriter(self, self._root, self._temporary())

    def put(self, digest: str, data: bytes) -> None:
        with self.writer(digest, len(data)) as writer:
            writer.write(data)
            writer.commit()

    def sync(self) -> None:
        with disk(self._root):
            sync_filesystem(self._root)

    def delete(self, digest: str) -> int:
        path = self.path_of(digest)
        try:
            size = path.stat().st_size
            path.unlink()
        except FileNotFoundError:
            return 0
        return size

    def stored(self) -> Iterator[StoredBlob]:
        for shard in _SHARDS:
            with os.scandir(self._root / shard) as entries:
                for entry in entries:
                    stat = entry.stat(follow_symlinks=False)
                    yield StoredBlob(entry.name, stat.st_size, stat.st_mtime)

    def sweep(self, older_than: float) -> int:
        freed = 0
        for path in self._incoming.rglob("*"):
            stat = path.lstat()
            if path.is_file() and stat.st_mtime < older_than:
                path.unlink(missing_ok=True)
                freed += stat.st_size
        for folder in self._incoming.iterdir():
            if folder.is_dir() and folder.stat().st_mtime < older_than and not any(folder.iterdir()):
                folder.rmdir()
        return freed

    def path_of(self, digest: str) -> Path:
        """Where a blob lies or will lie. Raises Invalid for what is no digest: nothing outside is ever named."""
        if not is_digest(digest):
            raise Invalid(f"{digest[:80]!r} is not a digest", "a digest is 64 lower-case hexadecimal characters")
        return Path(f"{self._root}/{digest[:2]}/{digest}")

    def _touch(self, digest: str) -> bool:
        try:
            os.utime(self.path_of(digest))
        except FileNotFoundError:
            return False
        return True

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


class LocalPackWriter:
    """Small blobs into a folder of their own; one sync, then each is renamed to its place."""

    def __init__(self, objects: LocalObjects, root: Path, folder: Path) -> None:
        self._objects = objects
        self._root = root
        self._folder = folder
        self._digests: dict[str, None] = {}
        with disk(root):
            folder.mkdir(0o700)

    def add(self, digest: str, data: bytes) -> None:
        if digest in self._digests or not self._objects.missing([digest]):
            return
        with disk(self._root):
            fd = os.open(f"{self._folder}/{digest}", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
            self._digests[digest] = None
            try:
                write_all(fd, data)
            finally:
                os.close(fd)

    def commit(self) -> int:
        count = len(self._digests)
        with disk(self._root):
            if self._digests:
                sync_filesystem(self._root)
            for digest in self._digests:
                (self._folder / digest).rename(self._objects.path_of(digest))
            self._digests.clear()
            self._folder.rmdir()
        return count

    def abort(self) -> None:
        for digest in self._digests:
            (self._folder / digest).unlink(missing_ok=True)
        self._digests.clear()
        if self._folder.is_dir():
            self._folder.rmdir()

    def __enter__(self) -> LocalPackWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.abort()


def write_all(fd: int, data: bytes) -> None:
    """All of `data` at the file's position: one write may take less than it was given."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def read_span(fd: int, start: int, end: int | None) -> Iterator[bytes]:
    """The bytes of an open file from `start` up to `end`, in pieces; closes it."""
    with open(fd, "rb", buffering=0) as file:
        file.seek(start)
        left = os.fstat(fd).st_size - start if end is None else end - start
        while left > 0 and (data := file.read(min(left, READ_BYTES))):
            left -= len(data)
            yield data


def _no_blob(digest: str) -> NotFound:
    return NotFound(f"there is no blob {digest}", "it was never stored or has been pruned")
