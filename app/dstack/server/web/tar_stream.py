"""Writes an artifact as a tar file while it is read, holding none of it; who may read it is asked elsewhere."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterable, Iterator

from dstack.wire.api import ArtifactFile

_BLOCK = tarfile.BLOCKSIZE

OpenFile = Callable[[ArtifactFile], Iterable[bytes]]


def tar_pieces(files: Iterable[ArtifactFile], open_file: OpenFile) -> Iterator[bytes]:
    """The bytes of a tar file of `files` in their order. The same artifact gives the same bytes: no times, no owners.

    Raises ValueError where a file is not as long as it should be; the reader then sees a broken download, not a
    shorter file that looks whole.
    """
    for file in files:
        entry = tarfile.TarInfo(file.path)
        entry.mode = file.mode & 0o777
        if file.target is not None:
            entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, file.target, 0o777
        else:
            entry.size = file.size
        yield entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
        if file.target is None:
            yield from _exactly(file, open_file(file))
            yield b"\0" * (-file.size % _BLOCK)
    yield b"\0" * (2 * _BLOCK)


def _exactly(file: ArtifactFile, pieces: Iterable[bytes]) -> Iterator[bytes]:
    left = file.size
    for piece in pieces:
        left -= len(piece)
        if left < 0:
            break
        yield piece
    if left:
        raise ValueError(
            f"{file.path!r} is {abs(left)} bytes {'shorter' if left > 0 else 'longer'} than its manifest says"
        )
