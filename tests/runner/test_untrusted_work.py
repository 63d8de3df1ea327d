"""A runner says that it takes strangers' work only where it can keep that work to itself."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from runner_server import FakeServer, until

from dstack.errors import Invalid
from dstack.wire.job import Command, Job, PythonSpec
from dstack_runner.__main__ import main
from dstack_runner.settings import resolve
from dstack_runner.workspace import Workspaces

SERVER = {"server": "http://x"}


@pytest.mark.parametrize(
    ("flags", "env", "stored", "takes"),
    [
        ({}, {}, {}, False),
        ({}, {"DSTACK_RUNNER_UNTRUSTED": "1"}, {}, True),
        ({}, {"DSTACK_RUNNER_UNTRUSTED": "yes"}, {}, True),
        ({}, {"DSTACK_RUNNER_UNTRUSTED": "0"}, {"untrusted": "yes"}, False),
        ({}, {"DSTACK_RUNNER_UNTRUSTED": ""}, {"untrusted": "yes"}, True),
        ({"untrusted": "yes"}, {"DSTACK_RUNNER_UNTRUSTED": "0"}, {}, True),
        ({"untrusted": "no"}, {"DSTACK_RUNNER_UNTRUSTED": "1"}, {"untrusted": "yes"}, False),
    ],
)
def test_who_says_that_it_takes_strangers_work(
    flags: dict[str, str], env: dict[str, str], stored: dict[str, str], takes: bool
) -> None:
    assert resolve(SERVER | flags, env, stored).untrusted is takes


@pytest.mark.parametrize("word", ["true", "on", "2", "maybe"])
def test_a_word_that_may_mean_anything_is_refused(word: str) -> None:
    with pytest.raises(Invalid, match="expected yes or no"):
        resolve(SERVER, {"DSTACK_RUNNER_UNTRUSTED": word}, {})


def test_config_stores_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("DSTACK_RUNNER_UNTRUSTED", raising=False)
    stored = tmp_path / "dstack" / "runner.json"
    assert main(["config", "--untrusted", "--server", "http://127.0.0.1:1"]) == 0
    assert "untrusted: yes" in capsys.readouterr().out
    assert json.loads(stored.read_text())["untrusted"] == "yes"
    assert main(["config", "--untrusted", "no"]) == 0
    assert json.loads(stored.read_text())["untrusted"] == "no"
    assert main(["config", "--untrusted=perhaps"]) == 1
    assert json.loads(stored.read_text())["untrusted"] == "no"


def capacity(server: FakeServer) -> Any:
    until(lambda: server.polls, what="the runner polls")
    return server.polls[-1].capacity


@pytest.mark.parametrize(
    ("settings", "isolated", "untrusted"),
    [
        ({}, True, False),
        ({"untrusted": True}, True, True),
        ({"untrusted": True, "isolate": False}, False, False),
    ],
)
def test_it_offers_to_only_where_jobs_have_users_of_their_own(
    server: FakeServer,
    start_runner: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
    settings: dict[str, bool],
    isolated: bool,
    untrusted: bool,
) -> None:
    with caplog.at_level(logging.INFO, "dstack_runner.machine"):
        start_runner(**settings)
    found = capacity(server)
    assert (found.isolated, found.untrusted, found.takes_untrusted) == (isolated, untrusted, untrusted)
    refused = [r for r in caplog.records if "takes no untrusted work" in r.message]
    assert bool(refused) == (settings.get("untrusted", False) and not isolated)
    assert all("isolation is turned off" in r.message and r.levelno == logging.ERROR for r in refused)


def test_objects_of_strangers_lie_apart(tmp_path: Path) -> None:
    kept = Workspaces(tmp_path)
    assert kept.mirror("o/n", True) != kept.mirror("o/n", False)
    assert kept.mirror("o/n", False) == kept.mirror("o/n", False)


BACKEND = """
import os
def get_requires_for_build_editable(config=None):
    return []
def prepare_metadata_for_build_editable(folder, config=None):
    return prepare_metadata_for_build_wheel(folder, config)
def prepare_metadata_for_build_wheel(folder, config=None):
    info = os.path.join(folder, "mine-1.dist-info")
    os.mkdir(info)
    with open(os.path.join(info, "METADATA"), "w") as file:
        file.write("Metadata-Version: 2.1\\nName: mine\\nVersion: 1\\n" + %r)
    return "mine-1.dist-info"
"""
PROJECT = """
[project]
name = "mine"
version = "1"
dynamic = ["dependencies"]
[build-system]
requires = []
build-backend = "back"
backend-path = ["."]
"""


def test_what_a_strangers_build_code_answered_is_asked_again_for_us(site: FakeServer) -> None:
    """Resolving runs the checkout's own build code, and equal questions are answered from the record: else a pull
    request could choose the versions that the next trusted job installs."""
    job = Job(commands=(Command(argv=("true",)),), python=PythonSpec(requirements=("pyproject.toml",)))

    def resolved(extra: str, trusted: bool) -> str:
        sha = site.commit({"pyproject.toml": PROJECT, "back.py": BACKEND % extra})
        attempt = site.put(job, sha, trusted=trusted)
        until(lambda: attempt.finish is not None, 60, f"the job ends: {attempt.text}")
        return str(attempt.text)

    evil = resolved("Requires-Dist: evil>9\n", trusted=False)
    assert "evil" in evil and "resolving the requirements" in evil
    assert "resolving the requirements" in resolved("", trusted=False)  # a question that failed is not kept
    again = resolved("", trusted=False)
    assert "resolving the requirements" not in again
    ours = resolved("", trusted=True)
    assert "resolving the requirements" in ours
    assert "resolving the requirements" not in resolved("", trusted=True)
