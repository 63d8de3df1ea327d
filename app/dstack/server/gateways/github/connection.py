"""Holds who we are at GitHub and the calls in that name; made at first use, and anew when the App changes."""

from __future__ import annotations

import logging
import threading

from dstack.errors import ForgeDown, ForgeFailed, NotConnected
from dstack.server.gateways.forge_facts import AppCredentials
from dstack.server.gateways.github import as_app
from dstack.server.gateways.github.calls import Calls

log = logging.getLogger(__name__)

_ASK_AGAIN_S = 60.0
_CLOSE_S = 5.0


class Connection:
    """`slug` is empty while nobody has told it."""

    def __init__(self, api_url: str, timeout_s: float, api_version: str) -> None:
        self._where = (api_url, timeout_s, api_version)
        self._lock = threading.Lock()
        self._calls: Calls | None = None
        self._over = threading.Event()  # for the thread that warms up
        self._warming: threading.Thread | None = None
        self._is_closed = False
        self.credentials: AppCredentials | None = None
        self.slug = ""

    def calls(self) -> Calls:
        """As whoever we are, or nobody. Raises ForgeDown after `close`."""
        with self._lock:
            if self._is_closed:
                raise ForgeDown("the server is stopping", "it is done after the next start")
            if self._calls is None:
                api_url, timeout_s, api_version = self._where
                self._calls = Calls(api_url, self.credentials, timeout_s, api_version)
            return self._calls

    def app_calls(self) -> Calls:
        """Raises NotConnected, before anything heavy is loaded."""
        if self.credentials is None:
            raise NotConnected("no GitHub App is connected", "connect one: dstack github connect")
        return self.calls()

    def change(self, credentials: AppCredentials | None) -> None:
        """Calls under way end in the old name; what holds on to it longer gets ForgeDown."""
        self._stop_warming()
        with self._lock:
            old, self._calls = self._calls, None
            self.credentials, self.slug = credentials, credentials.slug if credentials else ""
        if old is not None:
            old.close()
        if credentials is not None:
            # Loading the library takes 0.3 s, which neither the start of the server nor the first comment should wait.
            self._over = threading.Event()
            self._warming = threading.Thread(target=self._warm, args=(self._over,), name="github", daemon=True)
            self._warming.start()

    def close(self) -> None:
        """For good: a worker that is still at it opens nothing again."""
        self._stop_warming()
        with self._lock:
            old, self._calls = self._calls, None
            self._is_closed = True
        if old is not None:
            old.close()

    def _stop_warming(self) -> None:
        self._over.set()
        if self._warming is not None:
            self._warming.join(_CLOSE_S)

    def _warm(self, over: threading.Event) -> None:
        """Until we know our name, or another App is connected."""
        while not over.is_set():
            try:
                calls = self.calls()
                found = self.slug or as_app.app(calls).slug
            except ForgeFailed as error:
                log.info("GitHub did not tell who we are: %s", error.message, extra={"action": "github"})
                over.wait(_ASK_AGAIN_S)
                continue
            if not over.is_set():
                self.slug = found
            return
