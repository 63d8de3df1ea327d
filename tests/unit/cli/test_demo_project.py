"""The sample repository of `dstack demo`: its files have no problem, and its second commit changes what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from dstack.cli.main import main
from dstack.demo import use_the_tag, write_project
from dstack.git.run import git
from dstack.language import read_project
from dstack.language.workflow import Dependency


def commit(root: Path) -> None:
    git(["add", "-A"], cwd=root)
    git(["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-q", "-m", "x"], cwd=root)


def test_the_second_push_starts_train_and_evaluate_on_the_tagged_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_COLOR", "1")
    write_project(tmp_path)
    git(["init", "-q", "-b", "main", "."], cwd=tmp_path)
    commit(tmp_path)
    assert main(["lint", "--strict"]) == 0 and main(["plan"]) == 0
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()[2:]] == [
        ["prepare", "starts"],
        ["train", "starts"],
        ["evaluate", "starts"],
    ]
    use_the_tag(tmp_path, 21)
    assert main(["lint", "--strict"]) == 0
    capsys.readouterr()
    assert main(["plan", "--base", "HEAD"]) == 0
    planned = {line.split()[0]: line.split()[1] for line in capsys.readouterr().out.splitlines()[1:]}
    assert planned == {"prepare": "no", "train": "starts", "evaluate": "starts"}
    files = {
        f".dstack/{name}.yaml": (tmp_path / f".dstack/{name}.yaml").read_bytes() for name in ("workflows", "variables")
    }
    project = read_project(files)
    assert project.workflows["train"].variables["epochs"] == "21"
    assert Dependency("prepare", "latest") in project.workflows["train"].depends_on
    assert {d.workflow for d in project.workflows["evaluate"].depends_on} == {"prepare", "train"}
