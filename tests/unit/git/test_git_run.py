"""Running git: a clean environment, errors that say what git said, input and output of any size."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dstack.errors import GitFailed
from dstack.git.run import config_environment, git, git_result, git_stream, require_git


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    git(["init", "--quiet", "--bare", "."], cwd=tmp_path)
    return tmp_path


def test_inherited_variables_do_not_reach_git(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    monkeypatch.setenv("GIT_WORK_TREE", "/nowhere")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/nowhere/config")
    for own_config in (True, False):
        assert git(["rev-parse", "--is-bare-repository"], cwd=repo, own_config=own_config) == b"true\n"
    with git_stream(["rev-parse", "--git-dir"], cwd=repo) as out:
        assert out.read() == b".\n"


def test_a_given_variable_wins_over_an_inherited_one(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert git(["rev-parse", "--git-dir"], cwd="/", env={"GIT_DIR": str(repo)}) == f"{repo}\n".encode()


def test_forget_inherited_cleans_this_process() -> None:
    code = (
        "import os; from dstack.git import run; run.forget_inherited(); print([k for k in os.environ if 'GIT_' in k])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "GIT_DIR": "/x", "GIT_X": "y"}, capture_output=True, check=True
    )
    assert done.stdout == b"[]\n"


def test_the_machines_configuration_is_shut_out(repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text("[core]\n\thooksPath = /evil\n\tpager = evil\n[user]\n\tname = ada\n")
    monkeypatch.setenv("HOME", str(home))
    assert git(["config", "core.hooksPath"], cwd=repo) == b"/dev/null\n"
    assert git_result(["config", "user.name"], cwd=repo)[0] == 1
    assert git(["config", "user.name"], cwd=repo, own_config=False) == b"ada\n"
    assert git(["config", "core.hooksPath"], cwd=repo, own_config=False) == b"/dev/null\n"


def test_settings_in_the_environment(repo: Path) -> None:
    env = config_environment([("x.a", "1"), ("x.b", "two words\n")])
    assert git(["config", "x.b"], cwd=repo, env=env) == b"two words\n\n"


def test_a_failure_says_what_git_said(repo: Path) -> None:
    with pytest.raises(GitFailed, match=r"git cat-file failed: fatal: Not a valid object name nope"):
        git(["-c", "x.y=z", "cat-file", "-p", "nope"], cwd=repo)
    assert git(["cat-file", "-e", "nope"], cwd=repo, ok_codes=(0, 128)) == b""


def test_standard_input_and_output_are_bytes_of_any_size(repo: Path) -> None:
    data = os.urandom(300_000) + b"\n\xff\n\n"
    sha = git(["hash-object", "-w", "--stdin"], cwd=repo, stdin=data).decode().strip()
    assert git(["cat-file", "blob", sha], cwd=repo) == data
    assert git(["hash-object", "--stdin"], cwd=repo) == git(["hash-object", "--stdin"], cwd=repo, stdin=b"")


def test_a_stream_left_early_ends_the_command(repo: Path) -> None:
    sha = git(["hash-object", "-w", "--stdin"], cwd=repo, stdin=os.urandom(3_000_000)).decode()
    with git_stream(["cat-file", "--batch"], cwd=repo, stdin=sha.encode()) as out:
        assert out.readline().endswith(b" blob 3000000\n")


def test_a_command_that_takes_too_long_is_ended(repo: Path) -> None:
    with pytest.raises(GitFailed, match="Timeout"):
        git(["-c", "alias.wait=!sleep 20", "wait"], cwd=repo, timeout_s=0.2)


def test_require_git(monkeypatch: pytest.MonkeyPatch) -> None:
    assert require_git() >= (2, 31)
    monkeypatch.setattr("dstack.git.run._OLDEST_GIT", (99, 0))
    with pytest.raises(GitFailed, match="too old"):
        require_git()
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(GitFailed, match="git is not installed"):
        require_git()
