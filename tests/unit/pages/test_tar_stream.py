"""A tar file made on the fly is one that tar reads, and never quietly wrong."""

from __future__ import annotations

import io
import tarfile

import pytest

from dstack.server.web.tar_stream import tar_pieces
from dstack.wire.api import ArtifactFile


def file(path: str, size: int, mode: int = 0o644, target: str | None = None) -> ArtifactFile:
    return ArtifactFile(path, size, "", mode, target)


def test_the_files_come_out_as_they_went_in() -> None:
    contents = {"a/empty": b"", "a/one": b"x", "b/block": b"y" * 512, "b/" + "ü" * 120 + ".bin": b"z" * 70_000}
    files = [file(path, len(data), 0o755) for path, data in contents.items()] + [file("latest", 0, target="a/one")]
    made = b"".join(tar_pieces(files, lambda entry: [contents[entry.path][:600], contents[entry.path][600:]]))
    with tarfile.open(fileobj=io.BytesIO(made)) as tar:
        assert tar.getnames() == [entry.path for entry in files]
        for path, data in contents.items():
            member = tar.extractfile(path)
            assert member is not None and member.read() == data
            assert (tar.getmember(path).mode, tar.getmember(path).mtime) == (0o755, 0)
        assert (tar.getmember("latest").issym(), tar.getmember("latest").linkname) == (True, "a/one")


@pytest.mark.parametrize("data", [b"short", b"much too long"])
def test_a_file_of_another_length_breaks_the_download(data: bytes) -> None:
    with pytest.raises(ValueError, match="than its manifest says"):
        list(tar_pieces([file("a", 8)], lambda entry: [data]))
