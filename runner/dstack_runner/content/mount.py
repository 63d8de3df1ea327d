"""Makes an artifact appear in a workspace: shared blocks, else hard links, else copies; no job can alter the cache.

A hard link is safe only when the job runs under another user than the runner: that user can neither write the file nor
change its mode. Folders made here belong to the runner too, so the job cannot put other files in place of its inputs.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from dstack.errors import Invalid
from dstack.wire.manifest import FileEntry, Manifest
from dstack_runner.content.beneath import FOLDER, open_root, opened
from dstack_runner.content.cache import READ_ONLY, READ_ONLY_EXECUTABLE, BlobCache
from dstack_runner.content.copying import copy_bytes, reflink

_NO_LINK = (errno.EXDEV, errno.EMLINK, errno.EPERM, errno.EOPNOTSUPP)


class How(StrEnum):
    """How the files came to be in the workspace."""

    REFLINK = "reflink"
    HARDLINK = "hardlink"
    COPY = "copy"


@dataclass(frozen=True, slots=True)
class Owner:
    """The user a job runs under."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Mounted:
    how: How
    files: int
    bytes: int


def mount(
    manifest: Manifest, cache: BlobCache, dest: Path, *, owner: Owner | None = None, copy: bool = False
) -> Mounted:
    """Put the files of a manifest, all of them in the cache, below `dest`, merging into folders that are there.

    `owner` is the user of the job, None when it runs as this one. `copy` makes the files the job's own to change.
    Raises Invalid for a file that is there already and for a folder on the way that is a link.
    """
    placing = _Placing(cache, owner if copy else None, copy, may_link=_is_another(owner) and not copy)
    with opened(open_root(dest)) as root_fd, _Folders(root_fd, placing.owner) as folders:
        for entry in sorted(manifest.files, key=lambda entry: entry.path):
            folder, _, name = entry.path.rpartition("/")
            folder_fd = folders.open(folder)
            try:
                placing.place(entry, folder_fd, name)
            except FileExistsError:
                raise Invalid(
                    f"input {entry.path!r} would replace a file that the checkout or another input has",
                    "save the artifact under another path, or remove the file from Git",
                ) from None
    return Mounted(placing.how, len(manifest.files), manifest.size)


def _is_another(owner: Owner | None) -> bool:
    return owner is not None and owner.uid not in (0, os.geteuid())


class _Placing:
    """Places files one by one; what the filesystem refused once is not tried again."""

    def __init__(self, cache: BlobCache, owner: Owner | None, writable: bool, *, may_link: bool) -> None:
        self._cache = cache
        self.owner = owner
        self._writable = writable
        self._may_link = may_link
        self._may_reflink = True
        self.how = How.REFLINK

    def place(self, entry: FileEntry, folder_fd: int, name: str) -> None:
        if entry.target is not None:
            os.symlink(entry.target, name, dir_fd=folder_fd)
            if self.owner:
                os.chown(name, self.owner.uid, self.owner.gid, dir_fd=folder_fd, follow_symlinks=False)
            return
        source = self._cache.path(entry.digest, executable=entry.mode == 0o755)
        if self._may_link and not self._may_reflink and self._link(source, folder_fd, name):
            return
        with _created(folder_fd, name) as target_fd, source.open("rb", buffering=0) as file:
            shared = self._may_reflink and reflink(file.fileno(), target_fd)
            self._may_reflink = shared
            linked = not shared and self._may_link
            if not shared and not linked:
                self.how = How.COPY
                copy_bytes(file.fileno(), target_fd)
            self._settle(target_fd, entry)
        if linked:  # the first file showed that blocks cannot be shared here
            os.unlink(name, dir_fd=folder_fd)
            self.place(entry, folder_fd, name)

    def _link(self, source: Path, folder_fd: int, name: str) -> bool:
        try:
            os.link(source, name, dst_dir_fd=folder_fd, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
            self._may_link = False
            return False
        self.how = How.HARDLINK
        return True

    def _settle(self, fd: int, entry: FileEntry) -> None:
        if self._writable:
            os.fchmod(fd, entry.mode)
            if self.owner:
                os.fchown(fd, self.owner.uid, self.owner.gid)
        else:
            os.fchmod(fd, READ_ONLY_EXECUTABLE if entry.mode == 0o755 else READ_ONLY)


@contextmanager
def _created(folder_fd: int, name: str) -> Iterator[int]:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with opened(os.open(name, flags, 0o600, dir_fd=folder_fd)) as fd:
        yield fd


class _Folders:
    """Opens folders below a root, making those that are missing; the last one stays open, as files come sorted."""

    def __init__(self, root_fd: int, owner: Owner | None) -> None:
        self._root_fd = root_fd
        self._owner = owner
        self._at = ""
        self._fd = os.dup(root_fd)

    def open(self, path: str) -> int:
        """Raises Invalid when a part of the path is a link or a file."""
        if path != self._at:
            fd = self._walk(path)
            os.close(self._fd)
            self._at, self._fd = path, fd
        return self._fd

    def _walk(self, path: str) -> int:
        fd = os.dup(self._root_fd)
        for part in filter(None, path.split("/")):
            with opened(fd):
                fd = self._step(fd, part, path)
        return fd

    def _step(self, fd: int, part: str, path: str) -> int:
        try:
            os.mkdir(part, 0o755, dir_fd=fd)
            made = True
        except FileExistsError:
            made = False
        try:
            inner = os.open(part, FOLDER, dir_fd=fd)
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.ELOOP):
                raise Invalid(f"input {path!r}: {part!r} is a file or a link in the checkout, not a folder") from None
            raise
        if made:
            os.fchmod(inner, 0o755)
            if self._owner:
                os.fchown(inner, self._owner.uid, self._owner.gid)
        return inner

    def __enter__(self) -> _Folders:
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._fd)
