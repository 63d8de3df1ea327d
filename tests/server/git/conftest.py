"""Fixtures: a served Git remote, and a clone that pushes to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from served_git import Clone, Served, serve


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    yield from serve(tmp_path / "server")


@pytest.fixture
def clone(served: Served, tmp_path: Path) -> Clone:
    return Clone(tmp_path / "home" / "clone", served.url())
