"""An answer as it comes: a body in pieces, a cut that is noticed, and a limit to what is read at once."""

from __future__ import annotations

import http.client
from collections.abc import Iterator

from dstack.client.troubles import words
from dstack.errors import DstackError, Unreachable

MAX_ANSWER_BYTES = 256 * 1024 * 1024
CHUNK = 256 * 1024


class Stream:
    """An answer whose body is read as it comes. Iterate once, inside `with`; a cut raises Unreachable."""

    def __init__(self, url: str, connection: http.client.HTTPConnection, response: http.client.HTTPResponse) -> None:
        self._url, self._connection, self._response = url, connection, response
        self.status = response.status
        self.headers = response.headers

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._response.close()
        self._connection.close()

    def is_on(self, connection: http.client.HTTPConnection) -> bool:
        return self._connection is connection

    def read_all(self) -> bytes:
        """The whole body. The stream is closed where that fails, and else left as it is: its connection may be kept."""
        parts, size = [], 0
        try:
            for part in self:
                size += len(part)
                if size > MAX_ANSWER_BYTES:
                    raise DstackError(f"{self._url} sends an answer without end")
                parts.append(part)
        except BaseException:
            self.close()
            raise
        return b"".join(parts)

    def __iter__(self) -> Iterator[bytes]:
        expected = self._response.length  # None: chunked, where http.client itself notices an early end
        got = 0
        while True:
            try:
                data = self._response.read1(CHUNK)
            except (OSError, http.client.HTTPException) as error:
                raise Unreachable(f"the connection to {self._url} was cut: {words(error)}") from error
            if not data:
                break
            got += len(data)
            yield data
        if expected is not None and got < expected:
            raise Unreachable(f"the connection to {self._url} was cut after {got} of {expected} bytes")
        self._response.close()  # http.client takes a response for unread until it is told, even at its last byte
