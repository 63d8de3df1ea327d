"""The `dstack-runner` command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dstack_runner.__main__ import main


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("DSTACK_SERVER", "DSTACK_TOKEN", "DSTACK_RUNNER_NAME", "DSTACK_RUNNER_DATA", "DSTACK_RUNNER_GPUS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path


def test_config_stores_and_shows_all_but_the_token(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "--server", "http://127.0.0.1:1", "--token", "very-secret"]) == 0
    assert main(["config", "--slots", "2"]) == 0
    said = capsys.readouterr().out
    assert "very-secret" not in said and "slots: 2" in said and "server: http://127.0.0.1:1" in said
    stored = json.loads((home / "config" / "dstack" / "runner.json").read_text())
    assert stored == {"server": "http://127.0.0.1:1", "token": "very-secret", "slots": "2"}


def test_config_refuses_a_wrong_value_and_keeps_the_rest(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "--slots", "none"]) == 1
    assert "expected a whole number" in capsys.readouterr().err
    assert not (home / "config").exists()


def test_status_tells_what_a_start_would_find(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["status", "--json", "--server", "http://127.0.0.1:1", "--gpus", "A100:40GB:2"]
    assert main(words) == 1  # nobody works
    facts = json.loads(capsys.readouterr().out)
    assert (facts["registered"], facts["process"]) == (False, None)
    assert [device["name"] for device in facts["devices"]] == ["A100", "A100"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["start"], 2, "no server is configured"),
        (["start", "--server", "nowhere"], 2, "not a server address"),
        (["status", "--server", "http://x", "--gpus", "what"], 1, "cannot read"),
    ],
)
def test_mistakes_are_told_in_two_lines(
    words: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == code
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error


@pytest.mark.parametrize("words", [[], ["nonsense"], ["start", "--nonsense"]])
def test_a_wrong_command_line_is_usage(words: list[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(words)
    assert left.value.code == 2
