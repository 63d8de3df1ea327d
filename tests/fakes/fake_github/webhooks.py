"""Delivers webhooks over real HTTP and keeps the App's delivery log, with the ways in which deliveries go wrong.

What is announced is decided elsewhere (`events.py`). Every method may be called from any thread.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import itertools
import json
import random
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from urllib.parse import urlsplit

from fake_github.state import App, Delivery, Json

ANSWER_WITHIN_S = 10.0
KEPT_S = 3 * 24 * 3600.0
LARGEST = 25 * 1024 * 1024  # bytes of a payload; larger ones are never sent


class Webhooks:
    """The queue of webhooks and the log of deliveries.

    Faults: `drop` (never made, not even logged), `lose` (logged as failed, never sent), `double`, `hold`/`release`,
    `delay_s`. A count of None means until `heal()`.
    """

    def __init__(self, clock: Callable[[], float], settled: threading.RLock) -> None:
        self._clock = clock
        self._guard = threading.Condition(settled)
        self._ids = itertools.count(70_000_000_001)
        self._queue: list[tuple[float, Delivery]] = []  # not before (monotonic), delivery
        self._held: list[Delivery] | None = None
        self._sending = 0
        self._closed = False
        self._drops: list[_Losses] = []
        self._losses: list[_Losses] = []
        self._copies = 1
        self.delay_s = 0.0
        self.kept_s = KEPT_S
        self.log: list[Delivery] = []
        self.dropped: list[tuple[str, str | None]] = []
        self._threads: list[threading.Thread] = []
        self.at_once(1)

    def at_once(self, count: int) -> None:
        """Send by this many connections side by side. One, to begin with: webhooks arrive in order. At GitHub they
        need not."""
        while len(self._threads) < count:
            self._threads.append(threading.Thread(target=self._work, name="fake-hookshot", daemon=True))
            self._threads[-1].start()

    def date_by(self, clock: Callable[[], float]) -> None:
        """The log's times are of this clock from now on: a test's that is ahead."""
        self._clock = clock

    # Faults

    def drop(self, count: int | None = 1, event: str | None = None) -> None:
        """The next `count` webhooks (of this event) are never made."""
        with self._guard:
            self._drops.append(_Losses(count, event))

    def drop_all(self) -> None:
        self.drop(None)

    def lose(self, count: int | None = 1, event: str | None = None, status_code: int = 0) -> None:
        """The next `count` webhooks are logged as failed and do not arrive."""
        with self._guard:
            self._losses.append(_Losses(count, event, status_code))

    def double(self, times: int = 2) -> None:
        """From now on every webhook arrives so many times, with one GUID."""
        self._copies = times

    def hold(self) -> None:
        """Keep webhooks back until `release`."""
        with self._guard:
            self._held = self._held if self._held is not None else []

    def release(self, shuffle: random.Random | None = None) -> int:
        """Send what was held, in this or in a shuffled order; how many."""
        with self._guard:
            held, self._held = self._held or [], None
            if shuffle is not None:
                shuffle.shuffle(held)
            for delivery in held:
                self._enqueue(delivery)
            return len(held)

    def heal(self) -> None:
        """No more faults (what is held stays held)."""
        with self._guard:
            self._drops, self._losses, self._copies, self.delay_s = [], [], 1, 0.0

    # The road

    def send(
        self,
        app: App,
        event: str,
        payload: Json,
        *,
        guid: str | None = None,
        installation_id: int | None = None,
        repository_id: int | None = None,
        sign: bool = True,
        raw: bytes | None = None,
    ) -> str | None:
        """Queue a webhook of one App; its GUID, or None when a fault kept it from being made."""
        action = payload.get("action")
        with self._guard:
            body = raw if raw is not None else json.dumps(payload).encode()
            if not app.active or len(body) > LARGEST or _taken(self._drops, event):
                self.dropped.append((event, action))
                return None
            guid = guid or str(uuid.uuid4())
            delivery = Delivery(
                id=next(self._ids), guid=guid, app=app, event=event, action=action, delivered_at=self._clock(),
                redelivery=False, headers=_headers(app, event, guid, body, sign), payload=payload, raw=body,
                installation_id=installation_id, repository_id=repository_id, url=app.webhook_url,
            )  # fmt: skip
            loss = _taken(self._losses, event)
            self.log.append(delivery)
            if loss is not None or not app.webhook_url:
                delivery.status_code = loss.status_code if loss else 0
                delivery.status = (
                    f"Invalid HTTP Response: {loss.status_code}" if loss and loss.status_code else "failed"
                )
                return guid
            for _ in range(self._copies):
                if self._held is not None:
                    self._held.append(delivery)
                else:
                    self._enqueue(delivery)
            return guid

    def redeliver(self, found: Delivery) -> Delivery:
        """The same webhook again: the GUID stays, the id is new."""
        with self._guard:
            again = replace(
                found, id=next(self._ids), redelivery=True, delivered_at=self._clock(), url=found.app.webhook_url,
                status="pending", status_code=0, duration=0.0, answer="", answer_headers={},
            )  # fmt: skip
            self.log.append(again)
            if not again.url:
                again.status = "failed"
            elif self._held is not None:
                self._held.append(again)
            else:
                self._enqueue(again)
            return again

    def deliveries(self, app: App) -> list[Delivery]:
        """What the App's log shows: answered ones not older than the retention, newest first."""
        with self._guard:
            since = self._clock() - self.kept_s
            return [d for d in reversed(self.log) if d.app is app and d.delivered_at >= since and d.status != "pending"]

    def flush(self, timeout_s: float = 20.0) -> None:
        """Wait until every webhook queued (not those held) has been answered."""
        deadline = time.monotonic() + timeout_s
        with self._guard:
            while self._queue or self._sending:
                if not self._guard.wait(max(0.0, deadline - time.monotonic())) and time.monotonic() >= deadline:
                    raise AssertionError(f"{len(self._queue) + self._sending} webhooks unanswered in {timeout_s} s")

    def close(self) -> None:
        with self._guard:
            self._closed = True
            self._queue.clear()
            self._guard.notify_all()
        for thread in self._threads:
            thread.join(ANSWER_WITHIN_S + 2)

    def _enqueue(self, delivery: Delivery) -> None:
        self._queue.append((time.monotonic() + self.delay_s, delivery))
        self._guard.notify_all()

    def _work(self) -> None:
        while True:
            with self._guard:
                while not self._closed and (not self._queue or self._queue[0][0] > time.monotonic()):
                    self._guard.wait(max(0.001, self._queue[0][0] - time.monotonic()) if self._queue else None)
                if self._closed:
                    return
                delivery = self._queue.pop(0)[1]
                self._sending += 1
            began = time.monotonic()
            status_code, status, headers, text = post(delivery)
            with self._guard:
                delivery.duration = time.monotonic() - began
                delivery.status_code, delivery.status = status_code, status
                delivery.answer_headers, delivery.answer = headers, text
                self._sending -= 1
                self._guard.notify_all()


class _Losses:
    def __init__(self, count: int | None, event: str | None, status_code: int = 0) -> None:
        self.left, self.event, self.status_code = count, event, status_code


def _taken(losses: list[_Losses], event: str) -> _Losses | None:
    """Use up one of the losses that are meant for this event."""
    for loss in losses:
        if loss.event in (None, event) and loss.left != 0:
            if loss.left is not None:
                loss.left -= 1
            return loss
    return None


def _headers(app: App, event: str, guid: str, body: bytes, sign: bool) -> dict[str, str]:
    headers = {
        "Accept": "*/*",
        "Content-Type": "application/json",
        "User-Agent": "GitHub-Hookshot/f4ke00d",
        "X-GitHub-Delivery": guid,
        "X-GitHub-Event": event,
        "X-GitHub-Hook-ID": str(app.id + 400_000),
        "X-GitHub-Hook-Installation-Target-ID": str(app.id),
        "X-GitHub-Hook-Installation-Target-Type": "integration",
    }
    if sign:
        secret = app.webhook_secret.encode()
        headers["X-Hub-Signature"] = "sha1=" + hmac.new(secret, body, hashlib.sha1).hexdigest()
        headers["X-Hub-Signature-256"] = "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest()
    return headers


def post(delivery: Delivery) -> tuple[int, str, dict[str, str], str]:
    """Send it once: status code, GitHub's word for it, headers and body of the answer. Redirects are not followed."""
    target = urlsplit(delivery.url)
    connection = http.client.HTTPConnection(target.hostname or "", target.port or 80, timeout=ANSWER_WITHIN_S)
    try:
        path = target.path + (f"?{target.query}" if target.query else "")
        connection.request("POST", path or "/", delivery.raw, delivery.headers)
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace")[:10_000]
    except TimeoutError:
        return 0, "timed out", {}, ""
    except (OSError, http.client.HTTPException):
        return 0, "failed to connect to host", {}, ""
    finally:
        connection.close()
    word = "OK" if 200 <= answer.status < 300 else f"Invalid HTTP Response: {answer.status}"
    return answer.status, word, dict(answer.getheaders()), text
