"""The fake GitHub as one thing: state, people's actions, and the server that answers for it."""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fake_github import shapes
from fake_github.acts_apps import AppActs
from fake_github.acts_pulls import PullActs
from fake_github.faults import Faults
from fake_github.front import PREFIX, Front
from fake_github.pages import Pages
from fake_github.readers import Readers
from fake_github.state import App, Json
from fake_github.wire import HttpServer


class FakeGitHub(AppActs, PullActs, Readers):
    """GitHub on a free port of loopback, from `with` to its end.

    `url` serves pages and Git, `api_url` REST. `clock` says the time of everything GitHub dates; faults and waiting go
    by the real one. At the end, a mistake inside the fake itself is raised."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time, port: int = 0) -> None:
        super().__init__(folder, clock)
        self._front = Front(self, Pages(self).answer)
        self._server = HttpServer(port, self._front.answer, clock)
        self.port = int(self._server.server_address[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self.api_url = self.url + PREFIX
        self.at = shapes.Addresses(self.url, self.api_url)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), name="fake-github", daemon=True
        )
        self._thread.start()

    def __enter__(self) -> FakeGitHub:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self.close()
        troubles = [*self.troubles, *self._server.mistakes]
        if kind is None and troubles:
            raise troubles[0]

    def close(self) -> None:
        """Stop serving and sending."""
        self._front.stop()
        self._server.close()
        self._thread.join(10)
        self.webhooks.close()

    # How it behaves

    @property
    def faults(self) -> Faults:
        return self._front.faults

    @contextlib.contextmanager
    def outage(self, how: str = "503") -> Iterator[None]:
        """Everything fails (REST, Git, pages): "503", another status, or "reset". Webhooks go on: hold or drop them."""
        with self.faults.outage(how):
            yield

    @property
    def delay_ms(self) -> float:
        """What every call takes longer."""
        return self._front.delay_s * 1000

    @delay_ms.setter
    def delay_ms(self, value: float) -> None:
        self._front.delay_s = value / 1000

    @property
    def enforce_pacing(self) -> bool:
        """Are writes side by side, and more than 80 a minute, refused (403 with retry-after)?"""
        return self.budget.enforce_pacing

    @enforce_pacing.setter
    def enforce_pacing(self, value: bool) -> None:
        self.budget.enforce_pacing = value

    @property
    def check_answers(self) -> bool:
        """Are the fake's own answers held against GitHub's description, too (into `violations`)?"""
        return self._front.check_answers

    @check_answers.setter
    def check_answers(self, value: bool) -> None:
        self._front.check_answers = value

    @property
    def described(self) -> bool:
        """Does GitHub's description lie beside the checkout?"""
        return self._front.description.present

    # Webhooks

    def send_raw(
        self, event: str, payload: Json, guid: str | None = None, sign: bool = True, app: App | None = None,
        raw: bytes | None = None,
    ) -> str | None:  # fmt: skip
        """Queue a webhook as given (`raw`: these very bytes) to an App, or to the only one there is; its GUID."""
        target = app or next(iter(self.apps.values()))
        installed: Any = payload.get("installation") or {}
        return self.webhooks.send(
            target, event, payload, guid=guid or str(uuid.uuid4()), sign=sign, raw=raw,
            installation_id=installed.get("id"), repository_id=(payload.get("repository") or {}).get("id"),
        )  # fmt: skip

    def flush(self, timeout_s: float = 20.0) -> None:
        """Wait until every webhook sent so far has been answered."""
        self.webhooks.flush(timeout_s)
