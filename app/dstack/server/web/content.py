"""The doors for bodies that may be large: log bytes, blobs, packs, manifests. It streams, checks limits, and no more.

The caller has authorised the attempt before it calls these. A body is taken in pieces of about `PIECE`; while one is
hashed and written in a thread, the next comes in, so the event loop never waits and memory stays at two pieces a call.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator, Set
from contextlib import aclosing
from urllib.parse import quote

from starlette.concurrency import iterate_in_threadpool, run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from dstack.errors import Invalid, Malformed, TooLarge
from dstack.server.gateways.ports import Logs, Objects
from dstack.server.web.ranges import NotSatisfiable, parse_range
from dstack.wire.codec import decode, to_dict
from dstack.wire.manifest import MAX_MANIFEST_BYTES
from dstack.wire.pack import MAGIC, PackReader, pack_end, pack_record
from dstack.wire.runner import (
    MAX_LOG_BYTES,
    MAX_LOG_CHUNK,
    MAX_PACK_BYTES,
    SMALL_BLOB_BYTES,
    BlobQuery,
    BlobsMissing,
)

PIECE = 192 * 1024  # what the socket gives at once, so that pieces are seldom joined
MAX_BLOB_BYTES = 1024**4
MAX_QUERY = 50_000  # digests one question may name
MAX_QUERY_BYTES = 4 * 1024 * 1024
_HEADERS = {
    "Cache-Control": "private, max-age=31536000, immutable",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Content-Disposition": "attachment",
    "X-Content-Type-Options": "nosniff",
}


async def put_log(
    request: Request, attempt_id: str, logs: Logs, check: Callable[[], object] = lambda: None
) -> Response:
    """Append the body at `?offset=N`; answers `{"size": N}`. What came in before a lost connection stays. `check` is
    asked before every piece, for the log may come to its end while the body is under way: then it raises."""
    offset = _offset(request)
    length = _length(request, MAX_LOG_CHUNK)
    if offset + length > MAX_LOG_BYTES:
        raise TooLarge(f"a log holds at most {MAX_LOG_BYTES} bytes")
    size = await run_in_threadpool(logs.append, attempt_id, offset, b"")

    def append(piece: bytes) -> None:
        nonlocal offset, size
        check()
        size = logs.append(attempt_id, offset, piece)
        offset += len(piece)

    await _take(request, append)
    return JSONResponse({"size": size})


async def put_blob(request: Request, digest: str, objects: Objects, *, proves: bool = False) -> Response:
    """Store one blob; answers `{"size": N}`. One that is there already is taken as read, unless the sender `proves` by
    its bytes to have it: other bytes are refused then as if nobody had sent it before."""
    length = _length(request, MAX_BLOB_BYTES)
    if not await run_in_threadpool(objects.missing, (digest,)):
        said = hashlib.sha256()
        await _take(request, said.update if proves else lambda piece: None)
        if proves and said.hexdigest() != digest:
            raise Invalid(
                f"the bytes of blob {digest} have another digest", "it changed while it was sent; save it again"
            )
        return JSONResponse({"size": length})
    writer = await run_in_threadpool(objects.writer, digest, length)
    try:
        await _take(request, writer.write)
        await run_in_threadpool(writer.commit)
    finally:
        await run_in_threadpool(writer.abort)
    return JSONResponse({"size": length})


async def put_pack(
    request: Request, objects: Objects, on_stored: Callable[[list[str]], object] = lambda digests: None
) -> Response:
    """Store a pack of small blobs, all or none; answers `{"blobs": N}`, how many it had. `on_stored` is told of their
    digests, each checked against its bytes."""
    _length(request, MAX_PACK_BYTES)
    reader = PackReader()
    writer = await run_in_threadpool(objects.pack_writer)
    digests: list[str] = []

    def add(piece: bytes) -> None:
        for digest, data in reader.feed(piece):
            writer.add(digest, data)
            digests.append(digest)

    try:
        await _take(request, add)
        count = reader.close()
        await run_in_threadpool(writer.commit)
    finally:
        await run_in_threadpool(writer.abort)
    await run_in_threadpool(on_stored, digests)
    return JSONResponse({"blobs": count})


async def missing(request: Request, objects: Objects, may_know: Callable[[], Set[str]] | None = None) -> Response:
    """Which of the digests of a `BlobQuery` the store lacks: `BlobsMissing`. Whoever `may_know` of some alone is told
    that all others are missing."""
    query = await read_query(request)

    def ask() -> list[str]:
        if may_know is None:
            return objects.missing(query.digests)
        known = may_know()
        lacking = set(objects.missing([digest for digest in query.digests if digest in known]))
        return [digest for digest in query.digests if digest not in known or digest in lacking]

    return JSONResponse(to_dict(BlobsMissing(tuple(await run_in_threadpool(ask)))))


async def get_manifest(request: Request, digest: str, objects: Objects) -> Response:
    """The canonical bytes of a manifest, which is a blob like others."""
    if await run_in_threadpool(objects.size, digest) > MAX_MANIFEST_BYTES:
        raise Invalid(f"{digest} is no manifest")
    return await get_blob(request, digest, objects, media_type="application/json")


async def get_blob(
    request: Request, digest: str, objects: Objects, *, media_type: str = "application/octet-stream", filename: str = ""
) -> Response:
    """A blob, or the one range asked for; a bad range is answered 416 without touching the blob."""
    size = await run_in_threadpool(objects.size, digest)
    headers = {**_HEADERS, "ETag": f'"{digest}"', "Accept-Ranges": "bytes"}
    if filename:
        headers["Content-Disposition"] = f"attachment; filename*=UTF-8''{quote(filename, safe='')}"
    try:
        span = parse_range(request.headers.get("range", ""), size)
    except NotSatisfiable:
        return Response(status_code=416, headers={"Content-Range": f"bytes */{size}"})
    start, end = span or (0, size)
    headers["Content-Length"] = str(end - start)
    if span:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    if request.method == "HEAD":
        return Response(headers=headers, media_type=media_type)
    pieces = await run_in_threadpool(objects.read, digest, start, end)
    return StreamingResponse(_given(pieces), 206 if span else 200, headers, media_type)


async def get_pack(
    request: Request, objects: Objects, check: Callable[[tuple[str, ...]], None] = lambda digests: None
) -> Response:
    """The small blobs of a `BlobQuery` as one pack, in that order. `check` may refuse what the caller must not read."""
    query = await read_query(request)
    await run_in_threadpool(check, query.digests)
    await run_in_threadpool(_check_small, objects, query.digests)
    return StreamingResponse(_given(_packed(objects, query.digests)), 200, _HEADERS, "application/octet-stream")


async def read_query(request: Request) -> BlobQuery:
    """The question for several blobs, within its limits."""
    query = decode(BlobQuery, await read_body(request, MAX_QUERY_BYTES))
    if len(query.digests) > MAX_QUERY:
        raise TooLarge(f"{len(query.digests)} digests in one question; at most {MAX_QUERY} are allowed")
    return query


async def read_body(request: Request, limit: int, on_piece: Callable[[int], object] = lambda size: None) -> bytes:
    """A whole body of at most `limit` bytes, refused as soon as it is known to be longer. `on_piece` is told of the
    bytes as they come in, and may raise."""
    _plain(request)
    announced = request.headers.get("content-length")
    if announced is not None:
        _check_length(announced, limit)
    body = bytearray()
    async with aclosing(request.stream()) as stream:
        async for data in stream:
            on_piece(len(data))
            body += data
            if len(body) > limit:
                raise TooLarge(f"the body is longer than {limit} bytes")
    return bytes(body)


async def _take(request: Request, use: Callable[[bytes], None]) -> None:
    """Give the body to `use` piece by piece in a thread, one piece ahead. Its error ends the reading."""
    running: asyncio.Future[None] | None = None
    try:
        async for piece in _pieces(request):
            if running is not None:
                await running
            running = asyncio.ensure_future(run_in_threadpool(use, piece))
        if running is not None:
            await running
    finally:
        if running is not None:  # the thread must be out of the writer before the writer is closed
            await asyncio.wait([running])
            running.exception()


async def _pieces(request: Request) -> AsyncIterator[bytes]:
    """The body in pieces of at least `PIECE`, the last may be shorter."""
    parts: list[bytes] = []
    held = 0
    async with aclosing(request.stream()) as stream:
        async for data in stream:
            parts.append(data)
            held += len(data)
            if held >= PIECE:
                yield b"".join(parts)
                parts, held = [], 0
    if held:
        yield b"".join(parts)


async def _given(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    async for piece in iterate_in_threadpool(pieces):
        yield piece


def _packed(objects: Objects, digests: tuple[str, ...]) -> Iterator[bytes]:
    parts, held = [MAGIC], 0
    for digest in digests:
        record = pack_record(digest, b"".join(objects.read(digest)))
        parts.append(record)
        held += len(record)
        if held >= PIECE:
            yield b"".join(parts)
            parts, held = [], 0
    parts.append(pack_end(len(digests)))
    yield b"".join(parts)


def _check_small(objects: Objects, digests: tuple[str, ...]) -> None:
    total = 0
    for digest in digests:
        size = objects.size(digest)
        total += size
        if size > SMALL_BLOB_BYTES or total > MAX_PACK_BYTES:
            raise TooLarge(f"a pack holds blobs of at most {SMALL_BLOB_BYTES} bytes, {MAX_PACK_BYTES} together")


def _offset(request: Request) -> int:
    text = request.query_params.get("offset", "")
    if not text.isascii() or not text.isdigit() or len(text) > 15:
        raise Malformed(f"?offset={text[:40]!r} is not a number of bytes")
    return int(text)


def _length(request: Request, limit: int) -> int:
    """The announced length of a plain body, checked before any of it is read."""
    _plain(request)
    announced = request.headers.get("content-length")
    if announced is None:
        raise Malformed("the request has no Content-Length", "send the body with its length")
    return _check_length(announced, limit)


def _check_length(announced: str, limit: int) -> int:
    if not announced.isascii() or not announced.isdigit():
        raise Malformed(f"Content-Length {announced[:40]!r} is not a number")
    if len(announced) > 15 or int(announced) > limit:
        raise TooLarge(f"a body of {announced[:20]} bytes; at most {limit} are allowed")
    return int(announced)


def _plain(request: Request) -> None:
    """Compressed bodies are refused: their size is not what they say (B71)."""
    encoding = request.headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise TooLarge(f"a body with Content-Encoding {encoding[:40]!r} has no known size", "send it uncompressed")
