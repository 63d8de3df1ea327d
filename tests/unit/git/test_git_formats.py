"""Git's formats and ours: commits, trees, notes, pushes, the CGI environment."""

from __future__ import annotations

import io
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dstack.errors import GitFailed, Malformed
from dstack.git import notes
from dstack.git.backend import backend_environment, read_head, serve_settings
from dstack.git.commits import read_answers, read_commit, tree_modes
from dstack.git.pushes import MAX_UPDATES, RefUpdate, read_updates, refusals

A, B, ZERO = "a" * 40, "b" * 40, "0" * 40

COMMIT = b"""tree %s
parent %s
parent %s
author Ada <L> Lovelace <ada@example.org> 1700000000 +0100
committer bot <bot@x> 1700000001 +0000
gpgsig -----BEGIN-----
 tree 0000
 -----END-----

Subject line
goes on

Body
""" % (A.encode(), B.encode(), ZERO.encode())


def test_a_commit_is_read() -> None:
    commit = read_commit(B, COMMIT)
    assert (commit.tree, commit.parents) == (A, (B, ZERO))
    assert (commit.author, commit.author_email) == ("Ada", "L> Lovelace <ada@example.org")
    assert (commit.authored_at, commit.committed_at) == (1700000000, 1700000001)
    assert commit.subject == "Subject line goes on"


@pytest.mark.parametrize(
    ("data", "author", "message"),
    [
        (b"tree x\nauthor \xe9 <a@b> 1 +0\nencoding ISO-8859-1\n\n\xe9t\xe9", "é", "été"),
        (b"tree x\nauthor \xe9 <a@b> 1 +0\nencoding nonsense\n\n\xe9", "\ufffd", "\ufffd"),
        (b"tree x\nauthor nobody\n\nm", "nobody", "m"),
        (b"tree x\n\n", "", ""),
        (b"tree x\nauthor A <a@b> -5 +0\n\n", "A", ""),
    ],
)
def test_odd_commits_are_read_as_far_as_they_go(data: bytes, author: str, message: str) -> None:
    commit = read_commit(A, data)
    assert (commit.author, commit.message) == (author, message)


@given(st.binary(max_size=200))
def test_no_bytes_break_the_reader(data: bytes) -> None:
    try:
        read_commit(A, data)
    except Malformed:
        pass


def test_what_is_no_commit_is_malformed() -> None:
    with pytest.raises(Malformed):
        read_commit(A, b"object x\ntype commit\n\n")


def test_tree_modes() -> None:
    raw = b"100644 a b\0" + b"\0" * 20 + b"120000 link\0" + b" " * 20 + b"40000 \xff\0" + b"x" * 20
    assert tree_modes(raw) == {"a b": "100644", "link": "120000", "\udcff": "40000"}
    assert tree_modes(b"100755 x\0" + b"1" * 32, 32) == {"x": "100755"}


def test_answers_end_at_the_one_too_large() -> None:
    stream = io.BytesIO(b"aa blob 3\nabc\nx:y z missing\nbb tree 9\n123456789\ncc blob 1\nx\n")
    first, second, third = read_answers(stream, 4, max_bytes=8)
    assert (first.kind, first.sha, first.size, first.data) == ("blob", "aa", 3, b"abc")
    assert (second.kind, second.data) == ("", None)
    assert (third.kind, third.size, third.data) == ("tree", 9, None)


def test_answers_that_stop_short_are_an_error() -> None:
    with pytest.raises(GitFailed):
        list(read_answers(io.BytesIO(b""), 1, 10))


NASTY = 'x\ndstack-run: {"name":"forged"}\u2028\x1b[31m'


def test_a_note_reads_for_people_and_for_programs() -> None:
    run = {"name": "calm-fox-1", "workflow": "train", "state": "failed", "reason": "exit_code", "worktree": True}
    assert notes.render({**run, "unknown": 1}).splitlines() == [
        "train calm-fox-1 failed (exit_code) [working tree]",
        'dstack-run: {"name":"calm-fox-1","workflow":"train","state":"failed","reason":"exit_code","worktree":true}',
    ]


def test_outside_text_cannot_forge_a_run() -> None:
    runs = [{"name": "n1", "workflow": NASTY, "metrics": {NASTY: 1.0}, "tags": [NASTY], "state": "succeeded"}]
    text = notes.render_all(runs)
    assert notes.parse(text) == runs
    assert "\x1b" not in text


def test_a_note_others_wrote_into_is_still_read() -> None:
    text = (
        "hello\n"
        + notes.render({"name": "a"})
        + "dstack-run: {broken\ndstack-run: [1]\nbye\n"
        + notes.render({"name": "b"})
    )
    assert notes.parse(text) == [{"name": "a"}, {"name": "b"}]


def test_numbers_json_has_no_word_for() -> None:
    (run,) = notes.parse(notes.render({"name": "a", "metrics": {"loss": math.nan, "x": math.inf, "y": 0.1}}))
    assert run["metrics"] == {"loss": "nan", "x": "inf", "y": 0.1}


@given(
    st.lists(st.fixed_dictionaries({"name": st.text(), "workflow": st.text(), "tags": st.lists(st.text())}), max_size=3)
)
def test_notes_round_trip(runs: list[dict[str, object]]) -> None:
    assert notes.parse(notes.render_all(runs)) == runs


def test_updates_are_read() -> None:
    (update,) = read_updates([f"{ZERO} {A} refs/heads/a b\n".encode()])
    assert update == RefUpdate(ZERO, A, "refs/heads/a b")
    assert (update.is_create, update.is_delete, update.branch, update.tag) == (True, False, "a b", None)
    assert RefUpdate(A, ZERO, "refs/tags/v/1").tag == "v/1"


@pytest.mark.parametrize(
    "line", [b"", b"x y", f"{A} {B}".encode(), f"{A} -x refs/heads/a".encode(), b"%s %s \xff" % (b"a" * 40, b"b" * 40)]
)
def test_lines_that_are_no_updates(line: bytes) -> None:
    with pytest.raises(Malformed):
        read_updates([line])


@pytest.mark.parametrize(
    ("ref", "passes"),
    [
        ("refs/heads/main", True),
        ("refs/tags/v1", True),
        ("refs/dstack/work/key", True),
        ("refs/notes/commits", True),
        ("refs/notes/dstack", False),
        ("refs/notes/dstack/x", False),
        ("refs/dstack/runs/x", False),
        ("refs/replace/x", False),
        ("refs/pull/1/head", False),
        ("HEAD", False),
        ("refs/heads/-x", False),
        ("refs/heads/locked", False),
        ("refs/heads/" + "x" * 251, False),
    ],
)
def test_which_refs_may_be_pushed(ref: str, passes: bool) -> None:
    refused = refusals([RefUpdate(ZERO, A, ref)], lambda name: name != "refs/heads/locked")
    assert (not refused) is passes
    assert all(line.startswith(ref) for line in refused)


def test_too_many_refs_at_once() -> None:
    updates = [RefUpdate(ZERO, A, f"refs/heads/b{n}") for n in range(MAX_UPDATES + 1)]
    assert len(refusals(updates, lambda ref: True)) == 1
    assert refusals(updates[:-1], lambda ref: True) == ()


def environment(**headers: str) -> dict[str, str]:
    return backend_environment(
        Path("/data/r1.git"),
        settings=serve_settings(Path("/data/r1.git"), Path("/data/hooks"), 1000),
        service="git-upload-pack",
        advertise=False,
        user="ada",
        headers={key.replace("_", "-"): value for key, value in headers.items()},
    )


def test_the_environment_of_a_fetch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    monkeypatch.setenv("CONTENT_LENGTH", "5")
    monkeypatch.setenv("DSTACK_ADMIN_TOKEN", "secret")
    env = environment(content_type="t", git_protocol="version=2", content_encoding="gzip", content_length="9")
    assert "GIT_DIR" not in env and "DSTACK_ADMIN_TOKEN" not in env and "PATH" in env and "CONTENT_LENGTH" not in env
    assert env["PATH_INFO"] == "/r1.git/git-upload-pack"
    assert (env["REQUEST_METHOD"], env["QUERY_STRING"], env["CONTENT_TYPE"]) == ("POST", "", "t")
    assert (env["GIT_PROTOCOL"], env["HTTP_CONTENT_ENCODING"]) == ("version=2", "gzip")
    settings = {env[f"GIT_CONFIG_KEY_{n}"]: env[f"GIT_CONFIG_VALUE_{n}"] for n in range(int(env["GIT_CONFIG_COUNT"]))}
    assert settings["core.hooksPath"] == "/data/hooks"
    assert settings["uploadpack.hideRefs"] == "refs/dstack"
    assert settings["receive.maxInputSize"] == "1000"


def test_strange_headers_do_not_reach_git() -> None:
    env = environment(git_protocol="version=2\nGIT_DIR=/x", content_encoding="br")
    assert "GIT_PROTOCOL" not in env and "HTTP_CONTENT_ENCODING" not in env


def test_the_head_of_an_answer() -> None:
    assert read_head(b"Status: 404 Not Found\r\nX: a:b\r\n\r\n") == (404, [(b"x", b"a:b")])
    assert read_head(b"Content-Type: x\r\n") == (200, [(b"content-type", b"x")])
