"""What the words after `dstack run` mean, by tables."""

from __future__ import annotations

from typing import Any

import pytest

from dstack.cli.runwords import find_target, no_target, read_provider, read_workflow
from dstack.errors import Usage

VARIABLES = {"epochs": "5", "batch-size": "32", "lr": "0.01", "json": "x"}


@pytest.mark.parametrize(
    ("words", "position"),
    [
        ("train", 0),
        ("-d train", 1),
        ("--var a=b train", 2),
        ("--var=a=b train", 1),
        ("--max-upload 1GB -d train", 3),
        ("-- train", 1),
        ("--", None),
        ("-d", None),
        ("", None),
        ("@/etc/passwd", 0),
    ],
)
def test_find_target(words: str, position: int | None) -> None:
    assert find_target(words.split()) == position


@pytest.mark.parametrize(
    ("words", "variables"),
    [
        ("", {}),
        ("--epochs 3", {"epochs": "3"}),
        ("--epochs=3 --lr 1e-3", {"epochs": "3", "lr": "1e-3"}),
        ("--lr -1", {"lr": "-1"}),
        ("--batch-size 4", {"batch-size": "4"}),
        ("--batch_size 4", {"batch-size": "4"}),
        ("--var batch_size=4", {"batch-size": "4"}),
        ("--var json=y --json", {"json": "y"}),
        ("--lr @/etc/passwd", {"lr": "@/etc/passwd"}),
        ("--lr=", {"lr": ""}),
    ],
)
def test_variables_are_options(words: str, variables: dict[str, str]) -> None:
    assert read_workflow(words.split(), "train", "", VARIABLES).variables == variables


@pytest.mark.parametrize(
    ("words", "said"),
    [("--epoch 3", "Did you mean --epochs"), ("--var lrr=1", "Did you mean lr"), ("extra", "--epochs (5)")],
)
def test_unknown_variables_are_answered_with_those_there_are(words: str, said: str) -> None:
    with pytest.raises(Usage) as caught:
        read_workflow(words.split(), "train", "", VARIABLES)
    assert said in caught.value.hint and "--lr (0.01)" in caught.value.hint


def test_help_offers_variables_with_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        read_workflow(["--help"], "train", "Train the 100% classifier".replace("%", "%%"), VARIABLES)
    shown = capsys.readouterr().out
    assert caught.value.code == 0
    assert "--epochs VALUE" in shown and "0.01" in shown and "--var json=VALUE" in shown


@pytest.mark.parametrize(
    ("provider", "words", "options"),
    [
        (
            "python",
            "train.py --epochs 3 -r requirements.txt -a model --gpu 1 -e K=V",
            {
                "script": "train.py",
                "args": ["--epochs", "3"],
                "requirements": ["requirements.txt"],
                "artifacts": ["model"],
                "resources": {"gpu": "1"},
                "env": {"K": "V"},
            },
        ),
        ("python", "-r a.txt -r b.txt x.py", {"script": "x.py", "requirements": ["a.txt", "b.txt"]}),
        ("python", "x.py -- -r mine --gpu 2", {"script": "x.py", "args": ["-r", "mine", "--gpu", "2"]}),
        ("python", "x.py @/etc/passwd a b", {"script": "x.py", "args": ["@/etc/passwd", "a", "b"]}),
        ("python", "-m pkg.train --lr 1", {"module": "pkg.train", "args": ["--lr", "1"]}),
        ("python", "--python 3.12 x.py", {"script": "x.py", "version": "3.12"}),
        ("bash", "make", {"commands": ["make"]}),
        ("bash", "echo|a b", {"commands": ["'echo|a' b"]}),
        ("mine", "one --two", {"args": ["one", "--two"]}),
    ],
)
def test_a_provider_without_an_entry(provider: str, words: str, options: dict[str, Any]) -> None:
    assert read_provider(words.split(), provider).options == options


def test_a_script_with_spaces_is_one_shell_text() -> None:
    assert read_provider(["make a && make b"], "bash").options == {"commands": ["make a && make b"]}


@pytest.mark.parametrize(("provider", "words"), [("python", ""), ("bash", ""), ("python", "-e novalue x.py")])
def test_incomplete_providers_are_usage_errors(provider: str, words: str) -> None:
    with pytest.raises(Usage):
        read_provider(words.split(), provider)


def test_unknown_workflow_lists_and_guesses() -> None:
    error = no_target(["prepare", "train"], "trian")
    assert "Did you mean train?" in error.hint and "prepare, train" in error.hint
