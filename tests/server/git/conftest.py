"""Fixtures: a served Git remote, and a clone that pushes to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from served_git import Clone, Host, Served


@pytest.fixture(scope="session")
def host() -> Iterator[Host]:
    host = Host()
    yield host
    host.stop()


@pytest.fixture
def served(host: Host, tmp_path: Path) -> Served:
    return host.serve(tmp_path / "server")


@pytest.fixture
def clone(served: Served, tmp_path: Path) -> Clone:
    return Clone(tmp_path / "home" / "clone", served.url())
