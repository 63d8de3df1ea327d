"""A store of its own for each test, served on a free port, and a client of one attempt."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from store_server import Serving, Store, app

from dstack.server.gateways.logs_local import LocalLogs
from dstack.server.gateways.objects_local import LocalObjects
from dstack_runner.content.http import HttpContent

_NOW: list[Store] = []


@pytest.fixture(scope="session")
def server() -> Iterator[Serving]:
    serving = Serving(app(lambda: _NOW[-1]))
    serving.start()
    yield serving
    serving.stop()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(LocalObjects(tmp_path / "objects"), LocalLogs(tmp_path / "logs"))


@pytest.fixture
def serving(store: Store, server: Serving) -> Serving:
    """The server, over this test's store. A test that stops it starts it again."""
    _NOW[:] = [store]
    store.url = f"http://127.0.0.1:{server.port}"
    return server


@pytest.fixture
def api(store: Store, serving: Serving) -> Iterator[HttpContent]:
    api = HttpContent(store.url, "a1", lambda: {"Authorization": "Bearer test"})
    yield api
    api.close()
