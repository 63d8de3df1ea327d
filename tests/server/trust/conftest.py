"""A server, a GitHub, and strangers: one scene for all tests of a process, each with pull requests of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fork_scene import Forks, forks


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    with forks(tmp_path_factory.mktemp("forks")) as scene:
        yield scene
