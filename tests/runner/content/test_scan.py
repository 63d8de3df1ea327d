"""Scanning a workspace: what is taken, what is left out and said, and what a hostile job cannot make it read."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
from pathlib import Path

import pytest

from dstack.errors import Invalid
from dstack_runner.content.globs import read_pattern
from dstack_runner.content.scan import LARGE_BYTES, MAX_DEPTH, scan


def write(root: Path, **files: str) -> None:
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "checkout"
    write(
        root,
        model_dot_bin="weights",
        data__train_dot_csv="1,2",
        data__test_dot_csv="3,4",
        data__raw__a_dot_txt="a",
        logs__run1__loss_dot_csv="5",
        logs__run2__loss_dot_csv="6",
        logs__run2__note_dot_txt="n",
        _dot_git__config="[core]",
        data___dot_git__config="[core]",
    )
    return root


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("data", ["data/raw/a.txt", "data/test.csv", "data/train.csv"]),
        ("./data/", ["data/raw/a.txt", "data/test.csv", "data/train.csv"]),
        ("model.bin", ["model.bin"]),
        ("*.bin", ["model.bin"]),
        ("data/*.csv", ["data/test.csv", "data/train.csv"]),
        ("data/t?st.csv", ["data/test.csv"]),
        ("data/t[a-q]*", ["data/test.csv"]),
        ("data/t[!a-q]*", ["data/train.csv"]),
        ("logs/**/*.csv", ["logs/run1/loss.csv", "logs/run2/loss.csv"]),
        ("**/loss.csv", ["logs/run1/loss.csv", "logs/run2/loss.csv"]),
        ("**/a.txt", ["data/raw/a.txt"]),
        ("**/data/**", ["data/raw/a.txt", "data/test.csv", "data/train.csv"]),
        ("l*/run2", ["logs/run2/loss.csv", "logs/run2/note.txt"]),
        ("data/**", ["data/raw/a.txt", "data/test.csv", "data/train.csv"]),
    ],
)
def test_folders_files_and_globs(root: Path, spec: str, expected: list[str]) -> None:
    found = scan(root, spec)
    assert [entry.path for entry in found.manifest.files] == expected
    assert found.skipped == ()


def test_the_whole_checkout_is_taken_without_git(root: Path) -> None:
    paths = [entry.path for entry in scan(root, ".").manifest.files]
    assert "model.bin" in paths
    assert not any(".git" in path for path in paths)


@pytest.mark.parametrize("spec", ["/etc", "../x", "a/../../x", "~/x", "a\\b", "a\0b", ".git", "data/.GIT/config"])
def test_paths_that_leave_are_refused(root: Path, spec: str) -> None:
    with pytest.raises(Invalid):
        scan(root, spec)


@pytest.mark.parametrize("spec", ["nothing", "data/nothing", "nothing/at/all", "*.nothing", "model.bin/x"])
def test_what_is_not_there_is_said(root: Path, spec: str) -> None:
    with pytest.raises(Invalid, match=r"no such|not a folder"):
        scan(root, spec)


def test_content_modes_and_order(root: Path) -> None:
    (root / "data/run.sh").write_text("#!/bin/sh\n")
    (root / "data/run.sh").chmod(0o700)
    (root / "data/Z").write_text("z")
    (root / "data/é").write_text("e")
    big = os.urandom(LARGE_BYTES + 3)
    (root / "data/big").write_bytes(big)
    files = {entry.path: entry for entry in scan(root, "data").manifest.files}
    assert files["data/run.sh"].mode == 0o755
    assert files["data/big"].digest == hashlib.sha256(big).hexdigest()
    assert files["data/big"].size == len(big)
    assert files["data/train.csv"].mode == 0o644
    assert list(files) == sorted(files, key=str.encode)


def test_files_of_the_commit_are_left_out(root: Path) -> None:
    found = scan(root, "data", {"data/train.csv", "data/test.csv"})
    assert [entry.path for entry in found.manifest.files] == ["data/raw/a.txt"]
    assert scan(root, "model.bin", {"model.bin"}).manifest.files == ()


def test_an_empty_folder_is_an_empty_artifact(root: Path) -> None:
    (root / "empty").mkdir()
    assert scan(root, "empty").manifest.files == ()


def test_links_that_stay_are_kept_and_others_skipped(root: Path) -> None:
    (root / "data/inside").symlink_to("train.csv")
    (root / "data/up").symlink_to("../model.bin")
    (root / "data/folder").symlink_to("raw")
    (root / "data/out").symlink_to("../../secret")
    (root / "data/absolute").symlink_to("/etc/passwd")
    found = scan(root, "data")
    links = {entry.path: entry.target for entry in found.manifest.files if entry.target is not None}
    assert links == {"data/inside": "train.csv", "data/up": "../model.bin", "data/folder": "raw"}
    assert [line.partition(":")[0] for line in found.skipped] == ["data/absolute", "data/out"]
    assert not any(entry.path.startswith("data/folder/") for entry in found.manifest.files)


def test_an_artifact_that_is_only_a_link_out_is_refused_with_the_reason(root: Path) -> None:
    (root / "out").symlink_to("/etc")
    with pytest.raises(Invalid) as caught:
        scan(root, "out")
    assert "leaves the checkout" in caught.value.hint


def test_a_folder_on_the_way_that_is_a_link_is_refused(root: Path, tmp_path: Path) -> None:
    write(tmp_path / "elsewhere", x="secret")
    (root / "way").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Invalid, match="link"):
        scan(root, "way/x")


def test_devices_fifos_sockets_and_sparse_giants_are_skipped_and_listed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(root / "data/fifo")
    monkeypatch.chdir(root / "data")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind("sock")
    with (root / "data/giant").open("wb") as file:
        file.truncate(1024**4)
    if os.geteuid() == 0:
        os.mknod(root / "data/null", 0o600 | 0o020000, os.makedev(1, 3))
    found = scan(root, "data")
    said = dict(line.split(": ", 1) for line in found.skipped)
    assert said["data/fifo"] == "is a FIFO"
    assert said["data/sock"] == "is a socket"
    assert said["data/giant"].startswith("is sparse")
    if os.geteuid() == 0:
        assert said["data/null"] == "is a device"
    assert len(found.manifest.files) == 3


def test_names_no_artifact_can_hold_are_skipped_and_listed(root: Path) -> None:
    (root / "data/back\\slash").write_text("x")
    (root / "data/new\nline").write_text("x")
    (root / "data/dot.").write_text("x")
    Path(os.fsdecode(os.fsencode(root / "data") + b"/\xff\xfe")).write_text("x")
    found = scan(root, "data")
    assert len(found.skipped) == 4
    assert all(line.isprintable() and line.encode() for line in found.skipped)
    assert len(found.manifest.files) == 3


def test_names_alike_are_kept_apart(root: Path) -> None:
    for name in ("é", "e\u0301", "É", "readme", "README"):
        (root / "data" / name).write_text(name)
    assert len(scan(root, "data").manifest.files) == 3 + 5


def test_a_file_that_grows_while_read_is_refused(root: Path) -> None:
    path = root / "data/growing"
    path.write_bytes(b"x" * (4 * LARGE_BYTES))

    def grow(count: int) -> None:
        with path.open("ab") as file:
            file.write(b"more")

    with pytest.raises(Invalid, match="changed while it was read"):
        scan(root, "data/growing", on_bytes=grow)


def test_a_file_swapped_for_a_link_is_never_followed(root: Path, tmp_path: Path) -> None:
    """Something swaps a file for a link to a secret and back, as fast as it can: the secret is never hashed."""
    secret = tmp_path / "secret"
    secret.write_text("secret")
    bad = hashlib.sha256(b"secret").hexdigest()
    target = root / "data/train.csv"
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            (root / "link").symlink_to(secret)
            (root / "link").rename(target)
            (root / "file").write_text("1,2")
            (root / "file").rename(target)

    thread = threading.Thread(target=swap)
    thread.start()
    refused = 0
    try:
        for _ in range(300):
            try:
                assert bad not in {entry.digest for entry in scan(root, "data").manifest.files}
            except Invalid:
                refused += 1
    finally:
        stop.set()
        thread.join()
    assert refused < 300


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [("a/**", "a", False), ("a", "ab", False), ("a*", "a/x", True), ("*", ".hidden", True), ("a/*/c", "a/b/d", False),
     ("**", "x/y", True), ("**/b", "b", True), ("a/**/b", "a/b", True), ("a/**/b", "a/x/y/b/z", True),
     ("[z-a]", "m", False)],
)  # fmt: skip
def test_patterns(pattern: str, path: str, expected: bool) -> None:
    assert read_pattern(pattern).takes(path) is expected


def test_a_pattern_of_many_stars_is_quick() -> None:
    assert not read_pattern("*a" * 40 + "b").takes("a" * 250)
    assert not read_pattern("**/" * 40 + "b").takes("/".join("a" * 250))


def test_a_file_that_lies_too_deep_is_skipped_and_listed(root: Path) -> None:
    deep = root / "data" / "/".join("d" * 300)
    deep.mkdir(parents=True)
    (deep / "file").write_text("x")
    found = scan(root, "data")
    assert all("/d/" not in entry.path for entry in found.manifest.files)
    assert found.skipped[0].endswith(f"lies more than {MAX_DEPTH} folders deep")
