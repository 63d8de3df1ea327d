"""Sends one HTTP call to the one server it was made for, with time limits, retries, and the token kept at home.

It stands on the standard library's http.client because the CLI must start fast: importing `requests` takes as long as
seventeen empty Python processes, http.client as long as three. It knows no call of the API by name.
"""

from __future__ import annotations

import http.client
import os
import ssl
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from dstack.client.address import Address, parse_address, redirect_target
from dstack.client.connecting import checked_token, connect, headers_of, target_of
from dstack.client.refusal import read_refusal
from dstack.client.retry import delay_before_retry, may_repeat, read_retry_after
from dstack.client.stream import Stream
from dstack.client.troubles import unreachable
from dstack.errors import DstackError, Unreachable

ANSWER_TIMEOUT_S = 30.0
MAX_REDIRECTS = 3
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes


class _Failure(NamedTuple):
    error: DstackError
    status: int | None = None
    retry_after: str | None = None
    refused: bool = False
    cut: bool = False  # the connection stood, and broke off
    hopeless: bool = False  # no repetition can help: the certificate, the address


class _Elsewhere(Unreachable):
    """A redirect to another server, which is not followed."""


class _Call(NamedTuple):
    method: str
    path: str
    body: bytes | None
    headers: Mapping[str, str]
    timeout_s: float
    repeatable: bool
    whole: bool  # the body is read at once, and a cut in it is a reason to try again


class Transport:
    """Calls to one server. Not for use by several threads at once."""

    def __init__(self, url: str, token: str = "", *, sleep: Callable[[float], None] = time.sleep) -> None:
        self.address: Address = parse_address(url)
        self.token = checked_token(token)
        self._sleep = sleep
        self._kept: http.client.HTTPConnection | None = None
        self._has_met = False  # somebody listens there, or did

    def call(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        keyed: bool = False,
        timeout_s: float = ANSWER_TIMEOUT_S,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One call and its whole answer. `keyed` says that the server knows a repetition when it sees one.

        Raises the error that the server names, or Unreachable.
        """
        repeatable = may_repeat(method, keyed=keyed)
        answer = self._send(_Call(method, path, body, headers or {}, timeout_s, repeatable, whole=True))
        assert isinstance(answer, Answer)
        return answer

    def stream(
        self, path: str, *, timeout_s: float = ANSWER_TIMEOUT_S, headers: Mapping[str, str] | None = None
    ) -> Stream:
        """A GET whose body is read as it comes, on a connection of its own; `timeout_s` is the longest silence."""
        stream = self._send(_Call("GET", path, None, headers or {}, timeout_s, repeatable=True, whole=False))
        assert isinstance(stream, Stream)
        return stream

    def close(self) -> None:
        if self._kept is not None:
            self._kept.close()

    def __del__(self) -> None:
        if hasattr(self, "_kept"):  # not when the address was refused
            self.close()  # a command's connection ends with the command

    def _send(self, call: _Call) -> Answer | Stream:
        tries = redirects = 0
        while True:
            tries += 1
            outcome = self._try(call)
            self._has_met |= not isinstance(outcome, _Failure) or outcome.status is not None or outcome.cut
            if isinstance(outcome, str):  # a redirect to this path of the same server
                redirects += 1
                if redirects > MAX_REDIRECTS:
                    raise Unreachable(f"{self.address.url} redirects a {call.method} again and again")
                call = call._replace(path=outcome)
                continue
            if not isinstance(outcome, _Failure):
                return outcome
            jitter = os.urandom(1)[0] / 256  # the random module costs 5 ms at every start
            delay = delay_before_retry(
                tries,
                status=outcome.status,
                refused=outcome.refused,
                met=self._has_met,
                retry_after=outcome.retry_after,
                jitter=jitter,
            )
            if delay is None or outcome.hopeless or not (call.repeatable or outcome.refused):
                raise outcome.error
            self._sleep(delay)

    def _try(self, call: _Call) -> Answer | Stream | _Failure | str:
        try:
            stream = self._exchange(call)
            if stream.status in _REDIRECTS:
                return self._redirected(call, stream)
            if stream.status < 400 and not call.whole:
                return stream
            body = self._read(stream)
        except (OSError, http.client.HTTPException, UnicodeError) as error:
            hopeless = isinstance(error, (ssl.SSLError, UnicodeError))
            refused = isinstance(error, ConnectionRefusedError)
            cut = isinstance(error, ConnectionResetError | BrokenPipeError | http.client.HTTPException)
            return _Failure(unreachable(self.address, error), refused=refused, cut=cut, hopeless=hopeless)
        except Unreachable as error:
            return _Failure(error, hopeless=isinstance(error, _Elsewhere))
        if stream.status < 400:
            return Answer(stream.status, stream.headers, body)
        retry_after = stream.headers.get("Retry-After")
        refusal = read_refusal(stream.status, body, read_retry_after(retry_after), self.address.url)
        return _Failure(refusal, status=stream.status, retry_after=retry_after)

    def _exchange(self, call: _Call) -> Stream:
        connection = self._connection(keep=call.whole and call.repeatable)
        if connection.sock is not None:
            connection.sock.settimeout(call.timeout_s)
        try:
            headers = {**headers_of(self.address, self.token, call.body), **call.headers}
            connection.request(call.method, target_of(self.address, call.path), body=call.body, headers=headers)
            if connection.sock is not None:
                connection.sock.settimeout(call.timeout_s)
            return Stream(self.address.url, connection, connection.getresponse())
        except BaseException:
            connection.close()
            raise

    def _connection(self, *, keep: bool) -> http.client.HTTPConnection:
        """The kept connection, or a fresh one: a kept one may be dead, and some calls go out only once."""
        if not keep:
            return connect(self.address)
        self._kept = self._kept or connect(self.address)
        return self._kept  # once closed, http.client opens it again by itself

    def _redirected(self, call: _Call, stream: Stream) -> str:
        location = stream.headers.get("Location") or ""
        stream.close()
        target = redirect_target(self.address, call.path, location) if call.method == "GET" else None
        if target is None:
            raise _Elsewhere(
                f"{self.address.url} redirects this {call.method} to {location[:200]!r}; the token was not sent there",
                "If that is the right address, set it with `dstack config set server URL`.",
            )
        return target

    def _read(self, stream: Stream) -> bytes:
        body = stream.read_all()
        if not (self._kept and stream.is_on(self._kept)):
            stream.close()
        return body
