"""The manifest: canonical, read back equal, and closed to every path that could leave its folder."""

from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dstack.errors import DstackError, Invalid
from dstack.wire.manifest import FileEntry, Manifest, check_link, check_path, decode_manifest, is_digest

DIGEST = hashlib.sha256(b"x").hexdigest()
_SEGMENT = st.text(st.sampled_from("abcüé0_- "), min_size=1, max_size=6).map(lambda text: text + "z")
_PATHS = st.lists(st.lists(_SEGMENT, min_size=1, max_size=3).map("/".join), unique=True, max_size=8)


def whole(paths: list[str]) -> Manifest:
    """A manifest of those paths that lie inside no other."""
    kept = [p for p in paths if not any(p.startswith(other + "/") for other in paths)]
    return Manifest(tuple(FileEntry(p, 1, DIGEST) for p in sorted(kept, key=str.encode)))


@given(_PATHS, st.randoms())
def test_the_encoding_does_not_depend_on_the_order(paths: list[str], random: object) -> None:
    manifest = whole(paths)
    assert decode_manifest(Manifest(tuple(reversed(manifest.files))).encode()) == manifest
    assert Manifest(tuple(reversed(manifest.files))).digest == manifest.digest


def test_size_counts_files_and_not_links() -> None:
    manifest = Manifest((FileEntry("a", 3, DIGEST), FileEntry("b", target="a"), FileEntry("c", 4, DIGEST, 0o755)))
    assert manifest.size == 7
    assert decode_manifest(manifest.encode()) == manifest


@pytest.mark.parametrize(
    "path",
    ["", "../x", "/x", "a\\..\\b", "C:x", "%2e%2e/x", "a/%252e", "a\0b", "x" * 300, "a/" * 2100 + "b", "dir./x", "x ",
     "a//b", "./a", "a/..", ".git/config", "a/.GIT/x", "tab\tx", "\ud800"],
)  # fmt: skip
def test_paths_that_could_leave_are_refused(path: str) -> None:
    with pytest.raises(Invalid):
        check_path(path)


@pytest.mark.parametrize("path", ["a", "a/b.txt", "é", "e\u0301", "A", ".gitignore", "a b/c", "..a", "100%"])
def test_plain_paths_pass(path: str) -> None:
    check_path(path)


@pytest.mark.parametrize(
    ("path", "target"),
    [("a", "../x"), ("a/b", "../../x"), ("a", "/etc"), ("a", ""), ("a", "d/x/../../y"), ("a/b", "c/../d")],
)
def test_links_that_leave_are_refused(path: str, target: str) -> None:
    with pytest.raises(Invalid):
        check_link(path, target)


@pytest.mark.parametrize(("path", "target"), [("a", "b"), ("a/b", "../c"), ("a/b/c", "../../d"), ("a", "./b")])
def test_links_that_stay_pass(path: str, target: str) -> None:
    check_link(path, target)


def rows(*files: list[object]) -> bytes:
    return json.dumps({"v": 1, "files": files}, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"", b"[]", b"{}", b"[" * 100_000, b'{"v":2,"files":[]}', b'{"v":1,"files":{}}', b'{"files":[],"v":1}',
        rows(["a", 0o644, 1]), rows(["a", 0o777, 1, DIGEST]), rows(["a", 0o644, -1, DIGEST]),
        rows(["a", 0o644, 1, "x"]), rows(["a", 0o644, 1.5, DIGEST]),
        rows(["b", 0o644, 1, DIGEST], ["a", 0o644, 1, DIGEST]),
        rows(["a", 0o644, 1, DIGEST], ["a", 0o644, 1, DIGEST]),
        rows(["a", 0o644, 1, DIGEST], ["a/b", 0o644, 1, DIGEST]),
        rows(["a", "b"], ["a/b", 0o644, 1, DIGEST]), rows(["a", "../b"]), rows(["../a", 0o644, 1, DIGEST]),
    ],
)  # fmt: skip
def test_what_no_runner_writes_is_refused(data: bytes) -> None:
    with pytest.raises(Invalid):
        decode_manifest(data)


@given(st.binary(max_size=200))
def test_noise_is_refused_in_words(noise: bytes) -> None:
    with pytest.raises(DstackError):
        decode_manifest(noise)


@pytest.mark.parametrize(
    ("text", "expected"), [(DIGEST, True), (DIGEST.upper(), False), (DIGEST[:-1], False), ("", False)]
)
def test_is_digest(text: str, expected: bool) -> None:
    assert is_digest(text) is expected
