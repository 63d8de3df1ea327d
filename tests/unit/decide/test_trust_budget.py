"""What a budget reads like, and when it is used up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dstack.errors import Invalid
from dstack.server.decide.budget import Usage, gpu_seconds_used, is_used_up, name_budget, parse_budget


@pytest.mark.parametrize(
    ("text", "seconds", "name"),
    [
        ("4gpu-h", 14400, "4gpu-h"),
        ("4 gpu-h", 14400, "4gpu-h"),
        ("4GPU-H", 14400, "4gpu-h"),
        ("1.5gpu-h", 5400, "1.5gpu-h"),
        ("4gpuh", 14400, "4gpu-h"),
        ("30gpu-min", 1800, "30gpu-min"),
        ("0.5gpu-min", 30, "0.5gpu-min"),
        ("90gpu-min", 5400, "1.5gpu-h"),
    ],
)
def test_budgets_as_people_write_them(text: str, seconds: float, name: str) -> None:
    assert parse_budget(text) == seconds
    assert name_budget(seconds) == name and parse_budget(name) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "4", "4h", "gpu-h", "-4gpu-h", "0gpu-h", "0.0gpu-min", "4gpu-d", "infgpu-h", "nangpu-h", "1e9gpu-h",
     "4gpu-h extra", "٤gpu-h", "9" * 50 + "gpu-h", "4,5gpu-h", "4gpu--h", "\n4gpu-h;x"],
)  # fmt: skip
def test_what_is_no_budget_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="is not a budget"):
        parse_budget(text)


@pytest.mark.parametrize(
    ("attempts", "used"),
    [
        ([], 0),
        ([Usage(0, 100.0)], 0),  # without GPUs
        ([Usage(1, 100.0)], 900),
        ([Usage(2, 100.0, 200.0), Usage(1, 150.0, 250.0)], 300),
        ([Usage(1, 0.0, 50.0)], 0),  # before this approval
        ([Usage(1, 0.0, 150.0)], 50),
        ([Usage(1, 0.0)], 900),
        ([Usage(4, 2000.0)], 0),  # the clock was set back
    ],
)
def test_gpus_times_time_since_the_approval(attempts: list[Usage], used: float) -> None:
    assert gpu_seconds_used(attempts, since=100.0, now=1000.0) == used


@pytest.mark.parametrize(
    ("budget", "used", "over"), [(None, 1e9, False), (10, 9.9, False), (10, 10, True), (10, 11, True), (10, 0, False)]
)
def test_when_it_is_used_up(budget: float | None, used: float, over: bool) -> None:
    assert is_used_up(budget, used) is over


@given(
    st.lists(st.builds(Usage, st.integers(0, 8), st.floats(0, 1e6), st.none() | st.floats(0, 1e6)), max_size=8),
    st.floats(0, 1e6),
    st.floats(0, 1e6),
    st.floats(0, 1e5),
)
def test_use_never_shrinks_while_time_passes(attempts: list[Usage], since: float, now: float, more: float) -> None:
    before = gpu_seconds_used(attempts, since, now)
    assert 0 <= before <= gpu_seconds_used(attempts, since, now + more)
