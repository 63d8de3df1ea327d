"""The calls of `api.py` over HTTP with `requests`: one attempt, one pool of connections, safe to use from threads.

It tries each call once: who calls decides how long to be patient.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, BinaryIO

import requests
from requests.adapters import HTTPAdapter

from dstack import errors
from dstack.wire.codec import decode, encode
from dstack.wire.runner import ArtifactSaved, BlobQuery, BlobsMissing, SaveArtifact
from dstack_runner.server import error_from

CONNECTIONS = 8  # kept open; more callers at once get connections of their own
PIECE = 256 * 1024
CONNECT_S = 10.0
ANSWER_S = 300.0  # a large blob is synced before it is answered
LOG_ANSWER_S = 30.0


class _WideAdapter(HTTPAdapter):
    """Sends bodies in large pieces: by default they go out 16 KiB at a time, which halves the speed."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs, blocksize=PIECE)


class HttpContent:
    """`ContentApi` and `LogApi` of one attempt. `headers` is asked for each call: tokens may change while it lives."""

    def __init__(self, server: str, attempt: str, headers: Callable[[], Mapping[str, str]]) -> None:
        self._base = f"{server.rstrip('/')}/api/v1/attempts/{attempt}"
        self._headers = headers
        self._session = requests.Session()
        self._session.trust_env = False  # a proxy of the job's or machine's environment is not ours to use
        adapter = _WideAdapter(pool_connections=1, pool_maxsize=CONNECTIONS)
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)

    def missing(self, digests: Iterable[str]) -> set[str]:
        answer = self._ask("POST", "/blobs/missing", encode(BlobQuery(tuple(digests))))
        return set(decode(BlobsMissing, answer.content).missing)

    def put_blob(self, digest: str, file: BinaryIO, size: int) -> None:
        self._ask("PUT", f"/blobs/{digest}", _Body(file, size) if size else b"")

    def put_pack(self, pack: bytes) -> None:
        self._ask("PUT", "/packs", pack)

    def get_blob(self, digest: str) -> Iterator[bytes]:
        return self._pieces("GET", f"/blobs/{digest}")

    def get_pack(self, digests: Iterable[str]) -> Iterator[bytes]:
        return self._pieces("POST", "/packs/read", encode(BlobQuery(tuple(digests))))

    def get_manifest(self, digest: str) -> bytes:
        return bytes(self._ask("GET", f"/manifests/{digest}").content)

    def save_artifact(self, artifact: SaveArtifact) -> ArtifactSaved:
        return decode(ArtifactSaved, self._ask("POST", "/artifacts", encode(artifact)).content)

    def put_log(self, offset: int, data: bytes) -> int:
        return int(self._ask("PUT", f"/log?offset={offset}", data, answer_s=LOG_ANSWER_S).json()["size"])

    def close(self) -> None:
        self._session.close()

    def _ask(
        self,
        method: str,
        path: str,
        body: bytes | _Body | None = None,
        *,
        stream: bool = False,
        answer_s: float = ANSWER_S,
    ) -> requests.Response:
        try:
            answer = self._session.request(
                method,
                self._base + path,
                data=body,
                headers={"Content-Type": _type_of(body), **self._headers()},
                timeout=(CONNECT_S, answer_s),
                stream=stream,
                allow_redirects=False,
            )
        except requests.RequestException as error:
            raise errors.Unreachable(f"{method} {self._base}{path}: {_said(error)}") from error
        if answer.status_code >= 300:
            with contextlib.closing(answer):
                raise _problem(answer)
        return answer

    def _pieces(self, method: str, path: str, body: bytes | None = None) -> Iterator[bytes]:
        answer = self._ask(method, path, body, stream=True)
        return _read(answer, f"{method} {path}")


class _Body:
    """The part of a file from where it stands, `size` bytes long; `requests` sends it with that length."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._left = size

    def __len__(self) -> int:
        return self._left

    def read(self, count: int = -1) -> bytes:
        data = self._file.read(self._left if count < 0 else min(count, self._left))
        if self._left and count and not data:
            raise errors.Invalid("a file became shorter while it was sent", "something of the job still writes it")
        self._left -= len(data)
        return data

    def __iter__(self) -> Iterator[bytes]:
        while data := self.read(PIECE):
            yield data


def _read(answer: requests.Response, what: str) -> Iterator[bytes]:
    with contextlib.closing(answer):
        try:
            yield from answer.iter_content(PIECE)
        except requests.RequestException as error:
            raise errors.Unreachable(f"{what}: the answer was cut off: {_said(error)}") from error


def _problem(answer: requests.Response) -> errors.DstackError:
    error = error_from(answer.status_code, answer.headers.get("Retry-After"), answer.content, answer.url)
    if isinstance(error, errors.OffsetMismatch):
        error.expected = int(answer.json().get("expected", 0))
    return error


def _type_of(body: bytes | _Body | None) -> str:
    return "application/json" if isinstance(body, bytes) and body[:1] == b"{" else "application/octet-stream"


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:300]
