"""Fixtures: one server for all tests that leave it as they found it, and servers of their own for the others."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from served_api import Api, serve


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with serve(tmp_path_factory.mktemp("api")) as api:
        yield api
