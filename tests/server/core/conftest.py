"""A wired server without its doors: a real database and real folders, a clock that stands until it is moved."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from ready_data import ready
from server_clock import FakeClock

from dstack.server.bootstrap import start
from dstack.server.settings import Settings
from dstack.server.wiring import Wiring


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def wiring(tmp_path: Path, clock: FakeClock) -> Iterator[Wiring]:
    with start(Settings(data=ready(tmp_path / "data"), admin_token="admin-token-for-tests"), clock) as started:
        yield started.wiring
