"""Installations for the tests: one that a whole worker shares, and fresh ones for tests that break theirs."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

for folder in (Path(__file__).parent, Path(__file__).parent.parent / "fakes"):
    sys.path.insert(0, str(folder))

from installation import RUNNING, Repository, Site  # noqa: E402  they lie beside this file


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """A failed test shows what server and runners said."""
    report = yield
    if report.when == "call" and report.failed:
        for site in RUNNING:
            report.sections.append(("processes", site.said(6000)))
    return report


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One server with one runner for all tests that leave it as it was; every run of theirs has ended at its end."""
    site = Site(tmp_path_factory.mktemp("shared"), DSTACK_RUNNER_GPUS="").start()
    try:
        site.runner(url=site.proxy().url)
        yield site
        for run in site.runs():
            site.call("POST", f"/runs/{run['name']}/stop", {})
        site.wait_all()
        site.assert_sound()
    finally:
        site.close()


@pytest.fixture
def make_site(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """Start a fresh installation; nothing of it is left after the test."""
    made: list[Site] = []

    def make(**settings: Any) -> Site:
        site = Site(tmp_path, **settings)
        made.append(site)
        return site.start()

    yield make
    for site in made:
        site.close()


@pytest.fixture
def repository(request: pytest.FixtureRequest) -> Callable[..., Repository]:
    """Make a working tree of a repo named after the test."""

    def make(site: Site, name: str = "") -> Repository:
        words = re.sub(r"[^a-z0-9]+", "-", request.node.name.removeprefix("test_").lower())
        return Repository(site, name or f"local/{words[:60].strip('-')}")

    return make
