"""A server and a GitHub that know each other, fresh for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from joined_github import Joined, joined, workflows


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Joined]:
    with joined(tmp_path, workflows(train="push", check="pull_request", by_hand="manual")) as scene:
        yield scene
