"""One wired server that speaks as an App of one fake GitHub; every test has a repository of its own there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fake_github import FakeGitHub
from github_scene import Scene, connected_server, new_scene

from dstack.server.wiring import Wiring


@pytest.fixture(scope="session")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeGitHub]:
    with FakeGitHub(tmp_path_factory.mktemp("github")) as github:
        yield github


@pytest.fixture(scope="session")
def wiring(fake: FakeGitHub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wiring]:
    with connected_server(fake, tmp_path_factory.mktemp("data")) as wired:
        yield wired


@pytest.fixture
def scene(fake: FakeGitHub, wiring: Wiring) -> Iterator[Scene]:
    yield new_scene(fake, wiring)
    fake.faults.clear()
    assert fake.violations == []
