"""A wired server without its doors, with a real repository in which runs succeed and fail as a test says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from ready_data import ready
from server_clock import FakeClock
from verdict_scene import Scene

from dstack.server.bootstrap import start
from dstack.server.settings import Settings


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    clock = FakeClock()
    with start(Settings(data=ready(tmp_path / "data"), admin_token="admin-token-for-tests"), clock) as started:
        yield Scene(started.wiring, clock)
