"""A wired server that speaks as an App of the fake GitHub, where a repository waits with one commit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_github import FakeGitHub
from github_scene import Scene, open_scene


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeGitHub]:
    with FakeGitHub(tmp_path / "github") as github:
        yield github
        assert github.violations == []


@pytest.fixture
def scene(fake: FakeGitHub, tmp_path: Path) -> Iterator[Scene]:
    with open_scene(fake, tmp_path / "data") as opened:
        yield opened
