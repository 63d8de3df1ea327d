"""When runners that were not heard from are not to blame."""

from __future__ import annotations

import pytest

from dstack.server.decide.silence import is_own_fault


@pytest.mark.parametrize(
    ("since", "own_fault"),
    [
        (0, False),
        (5, False),
        (9, False),  # a pass that came late
        (35, False),
        (36, True),  # a runner that renewed just before may not have had the time to renew again
        (3600, True),  # the clock was set ahead, or the machine slept
        (86400, True),
        (-0.5, False),  # time servers nudge clocks
        (-2, True),
        (-3600, True),
    ],
)
def test_a_pause_of_the_server_is_not_held_against_runners(since: float, own_fault: bool) -> None:
    assert is_own_fault(since, every_s=5, lease_s=60) is own_fault
