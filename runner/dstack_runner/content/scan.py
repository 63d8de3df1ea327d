"""Turns files of a workspace into manifest entries: finds them by folder, file or glob, and hashes them.

Links that stay inside the workspace are kept as links. Left out and listed: links that leave, devices, FIFOs, sockets,
unreadable files, names no artifact can hold, sparse giants. Left out silently: `.git`, and what Git tracks (it is in
the commit already). The job is over or stopped when this runs, yet nothing here trusts it: see `beneath.py`.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Container, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from dstack.errors import Invalid, TooLarge
from dstack.wire.manifest import MAX_FILES, FileEntry, Manifest, check_link, check_path
from dstack_runner.content.beneath import open_file, open_folder, open_leaf, open_root, opened
from dstack_runner.content.globs import Pattern, read_pattern

PIECE = 1024 * 1024
THREADS = min(4, os.cpu_count() or 1)
LARGE_BYTES = 1024 * 1024  # from here on a file is hashed in a thread: hashing large pieces lets others run
SPARSE_BYTES = 1024**3  # a file this large whose blocks are mostly holes is a mistake or a trap, not a model
SPARSE_SHARE = 16
MAX_DEPTH = 200  # folders in one another
# What a file answers that became a link, a folder or nothing between two looks at it.
_RACES = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EINVAL, errno.EISDIR)


@dataclass(frozen=True, slots=True)
class Scan:
    """What an artifact will hold. `skipped` reads `PATH: why`, for people."""

    root: Path
    spec: str
    manifest: Manifest
    skipped: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Found:
    path: str
    size: int
    mode: int


def scan(
    root: Path, spec_path: str, tracked: Container[str] = (), *, on_bytes: Callable[[int], None] = lambda count: None
) -> Scan:
    """Read the files that `spec_path` names below `root`. `tracked` are the paths Git has, relative to `root`.

    Raises Invalid when the path is not a relative one, names nothing, or a file changes while it is read.
    """
    pattern = read_pattern(spec_path)
    walk = _Walk(tracked)
    with opened(open_root(root)) as root_fd:
        try:
            found = list(walk.below(root_fd, pattern))
            entries = _hash_all(root_fd, found, on_bytes)
        except OSError as error:
            if error.errno in _RACES:
                raise _changed(str(error.filename or spec_path)) from None
            raise
    if not found and not walk.has_seen_any():
        raise Invalid(
            f"artifact {spec_path!r}: there is no such file or folder after the job",
            "the path is relative to the checkout; did the job write it elsewhere?" + walk.why(),
        )
    files = sorted([*entries, *walk.links], key=lambda entry: entry.path.encode())
    return Scan(root, spec_path, Manifest(tuple(files)), tuple(walk.skipped))


class _Walk:
    """One walk below a root: keeps links and what was skipped while it yields regular files."""

    def __init__(self, tracked: Container[str]) -> None:
        self._tracked = tracked
        self._count = 0
        self.links: list[FileEntry] = []
        self.skipped: list[str] = []
        self._seen = False

    def below(self, root_fd: int, pattern: Pattern) -> Iterator[_Found]:
        """Files the pattern names, from the deepest folder that all of them lie in."""
        try:
            folder_fd = open_folder(root_fd, pattern.folder)
        except FileNotFoundError:
            return
        with opened(folder_fd):
            yield from self._folder(folder_fd, pattern.folder, pattern)

    def has_seen_any(self) -> bool:
        """Whether the path named anything at all, were it only an empty folder or a file that Git has."""
        return bool(self.links) or self._seen

    def why(self) -> str:
        return "; skipped: " + "; ".join(self.skipped[:5]) if self.skipped else ""

    def _folder(self, fd: int, at: str, pattern: Pattern) -> Iterator[_Found]:
        if pattern.takes(at):
            self._seen = True
        with os.scandir(fd) as entries:
            names = sorted(entry.name for entry in entries)
        for name in names:
            path = f"{at}/{name}" if at else name
            if name.lower() == ".git" or not pattern.may_hold(path):
                continue
            info = os.stat(name, dir_fd=fd, follow_symlinks=False)
            if stat.S_ISDIR(info.st_mode):
                yield from self._inner(fd, name, path, pattern)
            elif pattern.takes(path):
                yield from self._leaf(fd, name, path, info)

    def _inner(self, fd: int, name: str, path: str, pattern: Pattern) -> Iterator[_Found]:
        if path.count("/") >= MAX_DEPTH:
            self._skip(f"{path[:200]}...", f"lies more than {MAX_DEPTH} folders deep")
            return
        try:
            inner = open_folder(fd, name)
        except PermissionError:
            self._skip(path, "cannot be read")
            return
        with opened(inner):
            yield from self._folder(inner, path, pattern)

    def _leaf(self, fd: int, name: str, path: str, info: os.stat_result) -> Iterator[_Found]:
        if path in self._tracked:
            self._seen = True
            return
        try:
            check_path(path)
        except Invalid as error:
            self._skip(path, error.message)
            return
        self._count += 1
        if self._count > MAX_FILES:
            raise TooLarge(f"an artifact holds at most {MAX_FILES} files", "pack them into an archive first")
        if stat.S_ISLNK(info.st_mode):
            self._link(path, os.readlink(name, dir_fd=fd))
        elif not stat.S_ISREG(info.st_mode):
            self._skip(path, f"is a {_kind(info.st_mode)}")
        elif info.st_size >= SPARSE_BYTES and info.st_blocks * 512 < info.st_size // SPARSE_SHARE:
            self._skip(path, f"is sparse: {info.st_size} bytes long, {info.st_blocks * 512} written")
        elif not os.access(name, os.R_OK, dir_fd=fd):
            self._skip(path, "cannot be read")
        else:
            yield _Found(path, info.st_size, 0o755 if info.st_mode & 0o100 else 0o644)

    def _link(self, path: str, target: str) -> None:
        try:
            target.encode()
            check_link(path, target)
        except (Invalid, UnicodeEncodeError):
            self._skip(path, f"is a link that leaves the checkout ({target[:200]!r})")
            return
        self.links.append(FileEntry(path, target=target))

    def _skip(self, path: str, why: str) -> None:
        shown = path if path.isprintable() else repr(path)[1:-1]
        self.skipped.append(f"{shown}: {why}")


def _kind(mode: int) -> str:
    return "FIFO" if stat.S_ISFIFO(mode) else "socket" if stat.S_ISSOCK(mode) else "device"


def _hash_all(root_fd: int, found: list[_Found], on_bytes: Callable[[int], None]) -> list[FileEntry]:
    """Entries of all files: small ones here, folder by folder; large ones in threads."""
    with ThreadPoolExecutor(THREADS, thread_name_prefix="hash") as pool:
        large = [pool.submit(_hash, root_fd, file, on_bytes) for file in found if file.size >= LARGE_BYTES]
        try:
            entries = list(_hash_small(root_fd, [f for f in found if f.size < LARGE_BYTES], on_bytes))
            return entries + [future.result() for future in large]
        except BaseException:
            _cancel(large)
            raise


def _cancel(futures: list[Future[FileEntry]]) -> None:
    for future in futures:
        future.cancel()


def _hash_small(root_fd: int, found: list[_Found], on_bytes: Callable[[int], None]) -> Iterator[FileEntry]:
    """Files come folder by folder, so each folder is opened once."""
    at, folder_fd = "", os.dup(root_fd)
    try:
        for file in found:
            folder, _, name = file.path.rpartition("/")
            if folder != at:
                inner = open_folder(root_fd, folder)
                os.close(folder_fd)
                at, folder_fd = folder, inner
            with opened(open_leaf(folder_fd, name, file.path)) as fd:
                yield _entry(fd, file, on_bytes)
    finally:
        os.close(folder_fd)


def _hash(root_fd: int, file: _Found, on_bytes: Callable[[int], None]) -> FileEntry:
    with opened(open_file(root_fd, file.path)) as fd:
        return _entry(fd, file, on_bytes)


def _entry(fd: int, file: _Found, on_bytes: Callable[[int], None]) -> FileEntry:
    before = os.fstat(fd)
    if not stat.S_ISREG(before.st_mode):
        raise _changed(file.path)
    digest, size = hashlib.sha256(), 0
    while data := os.read(fd, PIECE):
        digest.update(data)
        size += len(data)
        on_bytes(len(data))
        if size > file.size:
            raise _changed(file.path)
    if size != file.size or os.fstat(fd).st_mtime_ns != before.st_mtime_ns:
        raise _changed(file.path)
    return FileEntry(file.path, size, digest.hexdigest(), file.mode)


def _changed(path: str) -> Invalid:
    return Invalid(f"{path!r} changed while it was read", "something of the job still writes it")
