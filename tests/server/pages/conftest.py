"""A real server with the pages on a free port, over stand-ins that a test fills."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
import requests
import uvicorn
from pages_fakes import COOKIE, FakeActions, FakeGuard, FakeLogs, FakeViews
from playwright.sync_api import Browser, sync_playwright
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from dstack.server.web.pages import Pages
from dstack.server.web.security_headers import SecurityHeaders

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


@dataclass
class Site:
    """The running server, what it shows, and a browser that is signed in."""

    views: FakeViews = field(default_factory=FakeViews)
    actions: FakeActions = field(default_factory=FakeActions)
    logs: FakeLogs = field(default_factory=FakeLogs)
    guard: FakeGuard = field(default_factory=FakeGuard)
    url: str = ""
    browser: requests.Session = field(default_factory=requests.Session)

    def get(self, path: str, **options: object) -> requests.Response:
        return self.browser.get(self.url + path, timeout=10, allow_redirects=False, **options)  # type: ignore[arg-type]

    def post(self, path: str, form: dict[str, str], **options: object) -> requests.Response:
        return self.browser.post(self.url + path, data=form, timeout=10, allow_redirects=False, **options)  # type: ignore[arg-type]

    def anonymous(self, path: str, **options: object) -> requests.Response:
        return requests.get(self.url + path, timeout=10, allow_redirects=False, **options)  # type: ignore[arg-type]


class _Ready(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()

    async def startup(self, sockets: list | None = None) -> None:  # type: ignore[type-arg]
        await super().startup(sockets)
        self.ready.set()


class _Street:
    """The address at which each test puts up its own site: one listening server for all of them."""

    def __init__(self) -> None:
        self.app: ASGIApp | None = None
        self.url = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self.app is not None
        await self.app(scope, receive, send)


@pytest.fixture(scope="session")
def street() -> Iterator[_Street]:
    street = _Street()
    config = uvicorn.Config(street, host="127.0.0.1", port=0, log_level="error", lifespan="off", backlog=1024)
    server = _Ready(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    assert server.ready.wait(10)
    street.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    yield street
    server.should_exit = True
    thread.join(10)
    assert not thread.is_alive()


@pytest.fixture
def site(street: _Street) -> Iterator[Site]:
    site = Site(url=street.url)
    pages = Pages(
        views=site.views, actions=site.actions, logs=site.logs, guard=site.guard,
        clock=lambda: NOW, public_url="https://ci.example/",
    )  # fmt: skip
    app = Starlette(
        routes=pages.routes(),
        exception_handlers={HTTPException: pages.shell.on_error},
    )
    app.router.redirect_slashes = False
    street.app = SecurityHeaders(app)
    site.browser.cookies.set(COOKIE, "session-of-ada")
    yield site
    site.logs.close()
    site.browser.close()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """Tests with it are of the group `browser`, so that one process has one."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        yield browser
        browser.close()
