"""A server and a GitHub that know each other, with a pull request for each test that people comment on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from command_scene import Talk, talk


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Talk]:
    with talk(tmp_path_factory.mktemp("commands")) as server:
        yield server


@pytest.fixture
def scene(server: Talk) -> Talk:
    return server.fresh()
