"""The runner's calls to its server: one method a call, errors as the server meant them, and the one policy of retrying.

A `Server` is for one thread at a time (it keeps one connection); `another` makes one more. Uploads have connections of
their own too, so that bytes never stand in the way of a renewal.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

import requests

from dstack import errors
from dstack.client.refusal import read_refusal
from dstack.client.retry import read_retry_after
from dstack.version import __version__
from dstack.wire.codec import decode, encode
from dstack.wire.runner import (
    CALLS,
    LEASE_HEADER,
    PROTOCOL,
    PROTOCOL_HEADER,
    Finish,
    MetricsReport,
    Order,
    Poll,
    Polled,
    Registered,
    Registration,
    Renewal,
    Renewed,
    StateReport,
)

T = TypeVar("T")
CONNECT_S = 5.0
ANSWER_S = 30.0
LEASE_ANSWER_S = 8.0  # a hung call for a lease must leave time for another within it
FIRST_DELAY_S = 0.25
LONGEST_DELAY_S = 15.0


class Server:
    """One connection to the server at `url`, signed in as this runner by `token`."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self.token = token
        self._http = requests.Session()
        self._http.trust_env = False  # no netrc, and no proxy meant for other things between runner and server
        self._http.headers.update(
            {PROTOCOL_HEADER: str(PROTOCOL), "User-Agent": f"dstack-runner/{__version__}"} | bearer(token)
        )

    def another(self) -> Server:
        """A connection of its own for another thread."""
        return Server(self.url, self.token)

    def close(self) -> None:
        self._http.close()

    def register(self, registration: Registration) -> Registered:
        return decode(Registered, self._call("register", encode(registration)))

    def poll(self, poll: Poll) -> Polled:
        return decode(Polled, self._call("poll", encode(poll), answer_s=poll.wait_s + 15))

    def renew(self, renewal: Renewal) -> Renewed:
        return decode(Renewed, self._call("renew", encode(renewal), answer_s=LEASE_ANSWER_S))

    def accept(self, attempt: str, lease: str) -> Order:
        return decode(Order, self._call("accept", b"", attempt=attempt, lease=lease, answer_s=LEASE_ANSWER_S))

    def state(self, attempt: str, lease: str, report: StateReport) -> None:
        self._call("state", encode(report), attempt=attempt, lease=lease)

    def metrics(self, attempt: str, lease: str, report: MetricsReport) -> None:
        self._call("metrics", encode(report), attempt=attempt, lease=lease)

    def finish(self, attempt: str, lease: str, finish: Finish) -> None:
        self._call("finish", encode(finish), attempt=attempt, lease=lease)

    def _call(self, name: str, body: bytes, *, attempt: str = "", lease: str = "", answer_s: float = ANSWER_S) -> bytes:
        method, path = CALLS[name].split(" ", 1)
        headers = {LEASE_HEADER: lease} if lease else {}
        if body:
            headers["Content-Type"] = "application/json"
        try:
            response = self._http.request(
                method,
                self.url + path.format(attempt=attempt),
                data=body,
                headers=headers,
                timeout=(CONNECT_S, answer_s),
                allow_redirects=False,  # a token never follows a redirect
            )
        except requests.RequestException as error:
            raise errors.Unreachable(
                f"no answer from {self.url} ({name}): {_short(error)}", "is the server running, and the address right?"
            ) from None
        if response.ok and not response.is_redirect:
            return response.content
        raise error_from(response.status_code, response.headers.get("Retry-After"), response.content, self.url)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"} if token else {}


def error_from(status: int, retry_after: str | None, body: bytes, url: str) -> errors.DstackError:
    """The server's refusal as the error it meant."""
    return read_refusal(status, body, read_retry_after(retry_after), url)


def worth_retrying(error: errors.DstackError) -> bool:
    """Whether the same call may succeed later: nobody answered, the server is unwell, or it is asked too often."""
    if isinstance(error, (errors.Unreachable, errors.Unavailable, errors.TooMany)):
        return True
    return type(error) is errors.DstackError  # the server's own 500


def delays(jitter: Callable[[], float] = random.random) -> Iterator[float]:
    """Seconds between tries: doubling to a ceiling, spread so that runners do not return all at once."""
    delay = FIRST_DELAY_S
    while True:
        yield delay * (0.5 + jitter() / 2)
        delay = min(delay * 2, LONGEST_DELAY_S)


def persist(call: Callable[[], T], give_up: threading.Event, *, on_wait: Callable[[errors.DstackError], None]) -> T:
    """Repeat `call` until it succeeds. Raises its error when no repetition helps or `give_up` is set meanwhile."""
    for delay in delays():
        try:
            return call()
        except errors.DstackError as error:
            if not worth_retrying(error) or give_up.is_set():
                raise
            on_wait(error)
            wait = max(delay, error.retry_after) if isinstance(error, errors.TooMany) else delay
            if give_up.wait(wait):
                raise
    raise AssertionError("delays never end")


def _short(error: requests.RequestException) -> str:
    cause: BaseException = error
    while cause.__context__ is not None and not isinstance(cause, OSError):
        cause = cause.__context__
    reason = getattr(error.args[0], "reason", None) if error.args else None
    text = str(reason or error)
    return text.split(": ", 1)[-1][:300] if reason else text[:300]
