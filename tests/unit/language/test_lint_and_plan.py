"""`dstack lint` and `dstack plan` on a real working tree."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dstack.cli.main import main
from dstack.git.run import git

WORKFLOWS = """
workflows:
  - {name: prepare, provider: bash, commands: ls, on: manual}
  - {name: train, provider: bash, commands: ls, depends-on: [prepare], paths: [src/**]}
  - {name: docs, provider: bash, commands: ls, on: {push: {branches: [docs]}}}
  - {name: follow, provider: bash, commands: ls, on: {tag-moved: prepare:latest}}
"""


def commit(root: Path, message: str) -> None:
    git(["add", "-A"], cwd=root)
    git(["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-q", "-m", message], cwd=root)


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / ".dstack").mkdir()
    (tmp_path / "src" / "é").mkdir(parents=True)
    (tmp_path / ".dstack" / "workflows.yaml").write_text(WORKFLOWS)
    (tmp_path / "src" / "a.py").write_text("1\n")
    git(["init", "-q", "-b", "main", "."], cwd=tmp_path)
    commit(tmp_path, "start")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def planned(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, tuple[str, str]]:
    assert main(["plan", "--json", *words]) == 0
    return {entry["workflow"]: (entry["answer"], entry["why"]) for entry in json.loads(capsys.readouterr().out)}


def test_lint_says_that_all_is_well(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lint"]) == 0
    assert capsys.readouterr().out == "no problems\n"


def test_lint_finds_the_files_from_a_folder_below(
    tree: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tree / ".dstack" / "workflows.yaml").write_text("workflows:\n  - name: a\n    provider: bahs\n")
    monkeypatch.chdir(tree / "src")
    assert main(["lint"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith('.dstack/workflows.yaml:3:15: a.provider: there is no provider "bahs"')
    assert lines[1:] == ["1 problem"]


def test_lint_prints_json_and_what_github_reads(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "workflows:\n  - {name: bash, provider: bash, commands: ls, help: 'x%'}\n  - {nmae: 'b,c'}\n"
    (tree / ".dstack" / "workflows.yaml").write_text(text)
    assert main(["lint", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert [entry["level"] for entry in found].count("warning") == 1
    assert {"file", "line", "column", "message", "expected", "suggestion"} <= set(found[0])
    assert main(["lint", "--format", "github"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("::error file=.dstack/workflows.yaml,line=3,col=6::") for line in lines)
    assert any(line.startswith("::warning file=.dstack/workflows.yaml,line=2,") for line in lines)


def test_warnings_fail_only_when_asked_to(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entry = "workflows: [{name: bash, provider: bash, commands: ls}]\n"
    (tree / ".dstack" / "workflows.yaml").write_text(entry)
    assert main(["lint"]) == 0
    assert "`dstack run bash` runs the workflow (warning)" in capsys.readouterr().out
    assert main(["lint", "--strict"]) == 1


def test_a_plan_shows_the_gates_of_what_would_run(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan"]) == 0
    assert "GATE" not in capsys.readouterr().out
    gate = "accuracy >= base.mean - 2 * base.std"
    text = WORKFLOWS.replace("name: train,", f"name: train, gate: {gate},")
    (tree / ".dstack" / "workflows.yaml").write_text(text)
    assert main(["plan"]) == 0
    header, first, *_ = capsys.readouterr().out.splitlines()
    assert header.split() == ["WORKFLOW", "WHY", "GATE"]
    assert first.startswith("prepare")
    assert main(["plan", "--json"]) == 0
    assert [entry["gate"] for entry in json.loads(capsys.readouterr().out)] == ["", gate, "", ""]


def test_lint_prints_the_schema_for_editors(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lint", "--schema"]) == 0
    assert json.loads(capsys.readouterr().out)["$id"] == "urn:dstack-ci:schema:v1:workflows"


def test_links_and_folders_are_not_read(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tree / ".dstack" / "variables.yaml"
    path.symlink_to("/etc/passwd")
    (tree / ".dstack" / "providers.yaml").mkdir()
    assert main(["lint"]) == 1
    out = capsys.readouterr().out
    assert ".dstack/variables.yaml: it is a symbolic link; expected a file" in out
    assert ".dstack/providers.yaml: it is no file" in out and "root:" not in out
    assert main(["plan"]) == 1
    assert "symbolic link" in capsys.readouterr().err


def test_lint_without_files_says_what_to_type(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lint", str(tmp_path)]) == 0
    assert "`dstack init` writes one" in capsys.readouterr().out


def test_a_push_of_an_unknown_range_takes_every_path_for_changed(
    tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = planned(capsys)
    assert list(answers) == ["prepare", "train", "docs", "follow"]
    assert answers["train"] == ("starts", "pushed to main")
    assert answers["prepare"] == ("runs first", "train needs it")
    assert answers["docs"] == ("no", "the branch main fits none of its branches (docs)")


def test_changes_are_those_of_the_working_tree_since_a_commit(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert planned(capsys, "--base", "HEAD")["train"] == ("no", "nothing it reads has changed (src/**)")
    (tree / "src" / "é" / "new.py").write_text("2\n")
    assert planned(capsys, "--base", "HEAD")["train"] == ("starts", "pushed to main; src/é/new.py changed")
    commit(tree, "more")
    assert planned(capsys, "--base", "HEAD~1")["train"][0] == "starts"
    assert planned(capsys, "--base", "HEAD")["train"][0] == "no"


def test_the_upstream_is_compared_with_by_default(
    tree: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    git(["clone", "-q", "--bare", ".", "../up.git"], cwd=tree)
    git(["remote", "add", "origin", "../up.git"], cwd=tree)
    git(["fetch", "-q", "origin"], cwd=tree)
    git(["branch", "-q", "-u", "origin/main"], cwd=tree)
    assert planned(capsys)["train"][0] == "no"
    (tree / "src" / "a.py").write_text("2\n")
    assert planned(capsys)["train"] == ("starts", "pushed to main; src/a.py changed")


def test_a_base_is_never_an_option(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--base=--output=pwned"]) == 1
    assert "git diff failed" in capsys.readouterr().err
    assert not (tree / "pwned").exists()


def test_other_events(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert planned(capsys, "--branch", "docs")["docs"][0] == "starts"
    answers = planned(capsys, "--event", "tag-moved", "--tag", "prepare:latest")
    assert [name for name, (answer, _) in answers.items() if answer == "starts"] == ["follow"]
    answers = planned(capsys, "train", "--event", "manual")
    assert {name: answer for name, (answer, _) in answers.items()} == {
        "prepare": "runs first", "train": "starts", "docs": "no", "follow": "no"
    }  # fmt: skip
    assert planned(capsys, "--event", "pull-request")["train"] == ("no", "it has no `on: pull_request`")
    assert main(["plan", "trian"]) == 1
    assert "did you mean" in capsys.readouterr().err


def test_a_commit_that_skips(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tree / "src" / "a.py").write_text("3\n")
    commit(tree, "wip [skip ci]")
    assert planned(capsys)["train"] == ("no", "the commit message says [skip ci]")


def test_the_plan_reads_as_a_table(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["prepare", "runs", "first", "train", "needs", "it"]
