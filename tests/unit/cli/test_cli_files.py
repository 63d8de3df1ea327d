"""The stored sign-in, repo names, status records, tags and starter files."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from dstack.cli import config_file
from dstack.cli.config_file import SignIns, load_sign_ins, save_sign_ins, store_sign_in
from dstack.cli.download import check_path, is_inside
from dstack.cli.repository import repo_name
from dstack.cli.starter import find_steps, starter_files
from dstack.cli.status import is_like_secret, parse_status
from dstack.cli.tagname import parse_tag
from dstack.errors import DstackError, Invalid, Usage
from dstack.language import read_project


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path


def test_a_sign_in_is_written_for_this_user_alone(home: Path) -> None:
    path = home / "dstack" / "config.json"
    path.parent.mkdir()
    path.write_text("{}")
    path.chmod(0o644)
    assert load_sign_ins().is_exposed
    assert store_sign_in("http://127.0.0.1:3000/", "secret") == path
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_sign_ins() == SignIns("http://127.0.0.1:3000", {"http://127.0.0.1:3000": "secret"}, False)
    assert [p.name for p in path.parent.iterdir()] == ["config.json"]


def test_a_local_server_takes_no_team_server_out_of_sight(home: Path) -> None:
    store_sign_in("http://127.0.0.1:3000", "a")
    store_sign_in("http://127.0.0.1:3001", "b")
    assert load_sign_ins().server == "http://127.0.0.1:3001"
    save_sign_ins(load_sign_ins()._replace(server="https://team.org"))
    store_sign_in("http://127.0.0.1:3002", "c")
    assert load_sign_ins().server == "https://team.org"
    assert load_sign_ins().token_for("http://localhost:3002") == "c"
    assert load_sign_ins().token_for("https://localhost:3002") == ""


@pytest.mark.parametrize("text", ["{", "[]", '{"tokens": 3}', '{"tokens": {"nonsense": "x"}}'])
def test_a_broken_file_is_named(home: Path, text: str) -> None:
    (home / "dstack").mkdir()
    (home / "dstack" / "config.json").write_text(text)
    with pytest.raises(DstackError, match=r"config\.json cannot be understood"):
        load_sign_ins()


def test_a_relative_base_folder_does_not_count() -> None:
    assert config_file.config_path({"XDG_CONFIG_HOME": "here"}) == Path.home() / ".config/dstack/config.json"


@pytest.mark.parametrize(
    ("remotes", "folder", "name"),
    [
        ({"origin": "git@github.com:acme/vision.git"}, "x", "acme/vision"),
        ({"origin": "https://github.com/acme/vision"}, "x", "acme/vision"),
        ({"origin": "https://github.com/a/b", "dstack": "http://127.0.0.1:3000/git/local/c.git"}, "x", "local/c"),
        ({"origin": "/srv/git/thing.git"}, "digits", "local/digits"),
        ({}, "My Model (v2)", "local/My-Model-v2"),
        ({}, "..", "local/repo"),
        ({}, "a..b.git", "local/a.b"),
        ({}, "模型", "local/repo"),
    ],
)
def test_repo_name(remotes: dict[str, str], folder: str, name: str) -> None:
    assert repo_name(remotes, folder) == name


def test_parse_status() -> None:
    zeros, sha = "0" * 40, "1" * 40
    out = "\0".join(
        [
            f"# branch.oid {sha}",
            "# branch.head main",
            f"1 .M N... 100644 100644 100755 {sha} {sha} a file",
            f"1 AD N... 000000 100644 000000 {zeros} {sha} gone",
            f"1 .M S.M. 160000 160000 160000 {sha} {sha} sub",
            f"u UU N... 100644 100644 100644 100644 {sha} {sha} {sha} both ways",
            "? new\nfile",
            "? nested/",
            "",
        ]
    )
    status = parse_status(out.encode())
    assert (status.head, status.branch) == (sha, "main")
    assert [(c.path, c.mode, c.is_untracked) for c in status.changes] == [
        (b"a file", "100755", False),
        (b"gone", "", False),
        (b"new\nfile", "100644", True),
    ]
    assert status.unmerged == (b"both ways",) and status.nested == (b"sub", b"nested/")


@pytest.mark.parametrize(
    ("path", "is_like"),
    [
        (".env", True),
        ("a/.env.local", True),
        (".env.example", False),
        ("x.env", True),
        ("a/id_rsa", True),
        ("id_rsa.pub", False),
        ("tls.pem", True),
        ("environment.py", False),
        ("secrets.yaml", True),
        ("keys.py", False),
    ],
)
def test_is_like_secret(path: str, is_like: bool) -> None:
    assert is_like_secret(path) is is_like


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("latest", ("", "", "latest")),
        ("prepare:latest", ("", "prepare", "latest")),
        ("o/r/prepare:v1.0", ("o/r", "prepare", "v1.0")),
    ],
)
def test_parse_tag(text: str, parts: tuple[str, str, str]) -> None:
    assert parse_tag(text) == parts


@pytest.mark.parametrize("text", ["", ":", "a:", ":b", "a/b:c", "o//p:x", "a/b"])
def test_bad_tags(text: str) -> None:
    with pytest.raises(Usage):
        parse_tag(text)


@pytest.mark.parametrize(
    "tracked",
    [
        set(),
        {"Makefile"},
        {"train.py"},
        {"prepare.py", "train.py", "evaluate.py", "requirements.txt"},
        {"src/train.ipynb", "uv.lock", "data.py"},
    ],
)
def test_starters_have_no_problems(tracked: set[str]) -> None:
    files = {path: text.encode() for path, text in starter_files(tracked).items()}
    project = read_project(files)
    assert (project.problems == () and list(project.workflows) == [s.name for s in find_steps(tracked)]) or ["hello"]
    assert len(project.workflows) == max(1, len(find_steps(tracked)))


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../x", "a/../../x", "a//b", "./a", "a/\0"])
def test_paths_that_leave_are_refused(path: str) -> None:
    with pytest.raises(Invalid):
        check_path(path)


@pytest.mark.parametrize(
    ("path", "target", "inside"),
    [("a", "b", True), ("d/a", "../b", True), ("a", "../b", False), ("a", "/b", False), ("d/a", "x/../b", False)],
)
def test_links_that_stay_inside(path: str, target: str, inside: bool) -> None:
    assert is_inside(path, target) is inside
