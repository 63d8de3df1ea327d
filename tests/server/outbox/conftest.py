"""One server and one fake GitHub for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from outbox_scene import Scene, play
from server_clock import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def scene(tmp_path: Path, clock: FakeClock) -> Iterator[Scene]:
    with play(tmp_path, clock) as scene:
        yield scene
