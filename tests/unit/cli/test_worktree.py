"""The hidden commit of a working tree against real git: same files, and nothing of the user's touched."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dstack.cli.repository import open_repository
from dstack.cli.worktree import Shipment, c_quote, pack_working_tree
from dstack.errors import Conflict, Invalid, TooLarge

ENV = {
    **{k: v for k, v in os.environ.items() if not k.startswith("GIT_")},
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@example.org",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@example.org",
}


def run_git(folder: Path, *args: str, env: Mapping[str, str] = {}, check: bool = True) -> bytes:
    done = subprocess.run(["git", *args], cwd=folder, env={**ENV, **env}, capture_output=True)
    if check and done.returncode:
        raise AssertionError(f"git {args}: {done.stderr.decode()}")
    return done.stdout


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return make_work(tmp_path / "work", monkeypatch)


def make_work(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder.parent / "config"))
    folder.mkdir(parents=True)
    run_git(folder, "init", "-q", "-b", "main")
    (folder / "kept.txt").write_text("kept\n")
    (folder / "changed.txt").write_text("before\n")
    (folder / "gone.txt").write_text("gone\n")
    (folder / "folder").mkdir()
    (folder / "folder" / "inner.txt").write_text("inner\n")
    (folder / ".gitignore").write_text("ignored*\n")
    run_git(folder, "add", "-A")
    run_git(folder, "commit", "-q", "-m", "one")
    return folder


def tree_of(folder: Path, shipment: Shipment) -> dict[bytes, tuple[str, bytes]]:
    """Path -> (mode, content) of the shipped commit."""
    listed = run_git(folder, "ls-tree", "-r", "-z", shipment.sha, env=shipment.env)
    result = {}
    for line in listed.split(b"\0")[:-1]:
        facts, _, path = line.partition(b"\t")
        mode, _kind, blob = facts.decode().split()
        result[path] = (mode, run_git(folder, "cat-file", "blob", blob, env=shipment.env))
    return result


def files_of(folder: Path) -> dict[bytes, tuple[str, bytes]]:
    """Path -> (mode, content) of what lies in the folder and is not ignored."""
    result = {}
    for path in folder.rglob("*"):
        relative = path.relative_to(folder)
        if relative.parts[0] == ".git" or any(part.startswith("ignored") for part in relative.parts):
            continue
        if path.is_symlink():
            result[os.fsencode(relative)] = ("120000", os.fsencode(path.readlink()))
        elif path.is_file():
            mode = "100755" if path.stat().st_mode & 0o100 else "100644"
            result[os.fsencode(relative)] = (mode, path.read_bytes())
    return result


def bytes_of_git(folder: Path) -> dict[str, tuple[str, int | None]]:
    """Every file under .git with its digest, and the time it was written; that of objects git itself freshens."""
    return {
        str(path): (
            hashlib.sha256(path.read_bytes()).hexdigest(),
            None if "objects" in path.parts else path.stat().st_mtime_ns,
        )
        for path in sorted((folder / ".git").rglob("*"))
        if path.is_file()
    }


def test_ships_the_tree_as_it_is(work: Path) -> None:
    (work / "changed.txt").write_text("staged\n")
    run_git(work, "add", "changed.txt")
    (work / "changed.txt").write_text("and changed again\n")
    (work / "gone.txt").unlink()
    (work / "new").mkdir()
    (work / "new" / "binary.bin").write_bytes(bytes(range(256)) * 100)
    (work / "tool.sh").write_text("#!/bin/sh\n")
    (work / "tool.sh").chmod(0o755)
    (work / "link").symlink_to("folder/inner.txt")
    (work / "dangling").symlink_to("nowhere")
    (work / "ignored.txt").write_text("no\n")
    (work / 'we ird\n"name".txt').write_text("odd\n")
    Path(os.fsdecode(os.fsencode(work) + b"/latin-\xe9.txt")).write_text("not utf-8\n")
    run_git(work, "stash", "push", "-q", "--", "kept.txt", check=False)
    before = bytes_of_git(work)
    with pack_working_tree(open_repository(work)) as shipment:
        assert tree_of(work, shipment) == files_of(work)
        assert shipment.parent == run_git(work, "rev-parse", "HEAD").decode().strip()
        assert shipment.branch == "main"
        assert shipment.changed == 8
    assert bytes_of_git(work) == before
    assert run_git(work, "cat-file", "-e", shipment.sha, check=False) == b""


def test_a_clean_tree_is_its_commit(work: Path) -> None:
    head = run_git(work, "rev-parse", "HEAD").decode().strip()
    (work / "ignored.txt").write_text("no\n")
    with pack_working_tree(open_repository(work)) as shipment:
        assert (shipment.sha, shipment.parent, shipment.sent_bytes) == (head, "", 0)


def test_touched_but_equal_files_are_still_the_commit(work: Path) -> None:
    os.utime(work / "kept.txt", (1, 1))
    with pack_working_tree(open_repository(work)) as shipment:
        assert shipment.parent == ""


def test_equal_trees_are_equal_commits(work: Path) -> None:
    (work / "changed.txt").write_text("x")
    with pack_working_tree(open_repository(work)) as first, pack_working_tree(open_repository(work)) as second:
        assert first.sha == second.sha


def test_from_a_folder_below_and_detached(work: Path) -> None:
    run_git(work, "checkout", "-q", "--detach")
    (work / "changed.txt").write_text("x")
    with pack_working_tree(open_repository(work / "folder")) as shipment:
        assert shipment.branch == ""
        assert tree_of(work, shipment)[b"changed.txt"] == ("100644", b"x")


@pytest.mark.parametrize("where", ["file becomes folder", "folder becomes file", "folder becomes link", "rm --cached"])
def test_kinds_that_change(work: Path, where: str) -> None:
    if where == "file becomes folder":
        (work / "kept.txt").unlink()
        (work / "kept.txt").mkdir()
        (work / "kept.txt" / "now.txt").write_text("x")
    elif where == "rm --cached":
        run_git(work, "rm", "-q", "--cached", "kept.txt")
        (work / "kept.txt").write_text("untracked now")
    else:
        (work / "folder" / "inner.txt").unlink()
        (work / "folder").rmdir()
        if where == "folder becomes file":
            (work / "folder").write_text("a file")
        else:
            (work / "folder").symlink_to("new")
            (work / "new").mkdir()
            (work / "new" / "inner.txt").write_text("x")
    with pack_working_tree(open_repository(work)) as shipment:
        assert tree_of(work, shipment) == files_of(work)


def test_filters_and_line_ends_stay_off(work: Path) -> None:
    ran = work.parent / "filter-ran"
    run_git(work, "config", "filter.lfs.clean", f"touch '{ran}'; tr a-z A-Z")
    run_git(work, "config", "filter.lfs.required", "true")
    (work / ".gitattributes").write_text("*.big filter=lfs\n*.crlf text\n")
    (work / "old.big").write_text("large")
    (work / "lines.crlf").write_bytes(b"one\r\ntwo\r\n")
    run_git(work, "add", "-A")
    run_git(work, "commit", "-q", "-m", "filtered")
    assert run_git(work, "cat-file", "blob", "HEAD:old.big") == b"LARGE"
    ran.unlink()
    (work / "new.big").write_text("new")
    with pack_working_tree(open_repository(work)) as shipment:
        assert tree_of(work, shipment) == files_of(work)
    assert not ran.exists()


def test_no_commit_is_refused(tmp_path: Path) -> None:
    run_git(tmp_path, "init", "-q")
    with pytest.raises(Invalid, match="no commit yet"), pack_working_tree(open_repository(tmp_path)):
        pass


def test_no_repository_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="not inside"):
        open_repository(tmp_path)


def test_an_unfinished_merge_is_refused(work: Path) -> None:
    run_git(work, "checkout", "-q", "-b", "other")
    (work / "changed.txt").write_text("theirs\n")
    run_git(work, "commit", "-q", "-a", "-m", "theirs")
    run_git(work, "checkout", "-q", "main")
    (work / "changed.txt").write_text("ours\n")
    run_git(work, "commit", "-q", "-a", "-m", "ours")
    run_git(work, "merge", "-q", "other", check=False)
    with (
        pytest.raises(Conflict, match=r"merge is not finished: changed\.txt"),
        pack_working_tree(open_repository(work)),
    ):
        pass


@pytest.mark.parametrize("commits", [True, False])
def test_nested_repositories_are_refused(work: Path, commits: bool) -> None:
    (work / "nested").mkdir()
    run_git(work / "nested", "init", "-q")
    (work / "nested" / "file").write_text("x")
    if commits:
        run_git(work / "nested", "add", "-A")
        run_git(work / "nested", "commit", "-q", "-m", "inner")
    with pytest.raises(Invalid, match="nested"), pack_working_tree(open_repository(work)):
        pass


def test_too_large_lists_the_largest(work: Path) -> None:
    (work / "huge.bin").write_bytes(b"x" * 5000)
    (work / "small.bin").write_bytes(b"x" * 10)
    with pytest.raises(TooLarge) as caught, pack_working_tree(open_repository(work), max_bytes=1000):
        pass
    assert "4.9 KB  huge.bin" in caught.value.hint and "--max-upload" in caught.value.hint


def test_files_like_credentials_are_named(work: Path) -> None:
    for name in (".env", ".env.example", "folder/prod.env", "key.pem", "model.bin"):
        (work / name).write_text("x")
    with pack_working_tree(open_repository(work)) as shipment:
        assert sorted(shipment.secret_like) == [".env", "folder/prod.env", "key.pem"]


def test_a_linked_worktree_and_inherited_git_variables(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_git(work, "worktree", "add", "-q", str(tmp_path / "second"), "-b", "second")
    (tmp_path / "second" / "changed.txt").write_text("here")
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    monkeypatch.setenv("GIT_INDEX_FILE", "/nowhere/index")
    with pack_working_tree(open_repository(tmp_path / "second")) as shipment:
        assert shipment.branch == "second"
        assert tree_of(tmp_path / "second", shipment)[b"changed.txt"] == ("100644", b"here")


def test_c_quote() -> None:
    assert c_quote(b"plain/\xc3\xa9") == b"plain/\xc3\xa9"
    assert c_quote(b'a"b\nc\\') == b'"a\\042b\\012c\\134"'


NAMES = st.text(st.sampled_from("ab \n'\"\\é*?-:"), min_size=1, max_size=6).filter(lambda n: n not in (".", ".."))
CONTENT = st.binary(max_size=40)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    files=st.dictionaries(NAMES, CONTENT, max_size=5),
    staged=st.sets(NAMES, max_size=2),
    removed=st.sets(st.sampled_from(["kept.txt", "changed.txt", "folder/inner.txt"])),
)
def test_any_tree_arrives_whole(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes], staged: set[str], removed: set[str]
) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        work = make_work(tmp_path_factory.mktemp("any") / "work", monkeypatch)
        for name, content in files.items():
            (work / name).write_bytes(content)
        for name in staged & set(files):
            run_git(work, "add", "--", f":(literal){name}")
        for name in removed:
            (work / name).unlink()
        before = bytes_of_git(work)
        with pack_working_tree(open_repository(work)) as shipment:
            assert tree_of(work, shipment) == files_of(work)
        assert bytes_of_git(work) == before
