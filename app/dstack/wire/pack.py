"""The framing of a pack: many small blobs in one body, written and read as a stream; no stores, no HTTP.

A pack is `MAGIC`, then per blob its digest (32 bytes), its length (4 bytes, big-endian) and its bytes, then a trailer
of 32 zero bytes and the number of blobs (4 bytes): without it, a pack that was cut off would read as a whole one.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator

from dstack.errors import Invalid, Malformed, TooLarge
from dstack.wire.runner import SMALL_BLOB_BYTES

MAGIC = b"dspack1\n"
_HEAD = struct.Struct(">32sI")
_END = bytes(32)
HEAD_BYTES = _HEAD.size


def pack_record(digest: str, data: bytes) -> bytes:
    """One blob, framed; a pack is `MAGIC`, records, `pack_end(count)`."""
    return _HEAD.pack(bytes.fromhex(digest), len(data)) + data


def pack_end(count: int) -> bytes:
    """The trailer after `count` records."""
    return _HEAD.pack(_END, count)


def write_pack(blobs: Iterable[tuple[str, bytes]]) -> bytes:
    """A whole pack in memory; the caller keeps it under `MAX_PACK_BYTES`."""
    parts = [MAGIC]
    count = 0
    for digest, data in blobs:
        parts.append(pack_record(digest, data))
        count += 1
    parts.append(pack_end(count))
    return b"".join(parts)


class PackReader:
    """Reads a pack as its bytes come in: `feed` gives the blobs that are whole now, each checked against its digest.

    Holds at most one blob and one fed piece in memory. Raises Malformed for a broken frame, TooLarge for a blob above
    `blob_limit`, Invalid for one whose bytes are not what its digest says.
    """

    def __init__(self, blob_limit: int = SMALL_BLOB_BYTES) -> None:
        self._blob_limit = blob_limit
        self._buffer = bytearray()
        self._started = False
        self._ended = False
        self._count = 0

    def feed(self, data: bytes) -> list[tuple[str, bytes]]:
        """The blobs completed by these bytes, as (digest, bytes)."""
        self._buffer += data
        found: list[tuple[str, bytes]] = []
        at = self._magic()
        while self._started and not self._ended and (frame := self._frame(at)) is not None:
            raw, start, at = frame
            if raw == _END:
                self._ended = True
            else:
                found.append(self._checked(raw, bytes(memoryview(self._buffer)[start:at])))
        del self._buffer[:at]
        if self._ended and self._buffer:
            raise Malformed("the pack has bytes after its end")
        return found

    def close(self) -> int:
        """The number of blobs read. Raises Malformed when the pack was cut off."""
        if not self._ended:
            raise Malformed("the pack was cut off before its end", "send it again")
        return self._count

    def _magic(self) -> int:
        """Where the first frame begins in the buffer."""
        if self._started or len(self._buffer) < len(MAGIC):
            return 0
        if not self._buffer.startswith(MAGIC):
            raise Malformed("this is not a pack of blobs")
        self._started = True
        return len(MAGIC)

    def _frame(self, at: int) -> tuple[bytes, int, int] | None:
        """Digest, first and last position of the bytes of the frame at `at`; None while they are not all here."""
        start = at + HEAD_BYTES
        if len(self._buffer) < start:
            return None
        raw, number = _HEAD.unpack_from(self._buffer, at)
        if raw == _END:
            if number != self._count:
                raise Malformed(f"the pack says it has {number} blobs and has {self._count}")
            return raw, start, start
        if number > self._blob_limit:
            raise TooLarge(
                f"a blob of {number} bytes in a pack; at most {self._blob_limit} are allowed", "send it alone"
            )
        return (raw, start, start + number) if len(self._buffer) >= start + number else None

    def _checked(self, raw: bytes, content: bytes) -> tuple[str, bytes]:
        digest = raw.hex()
        if hashlib.sha256(content).digest() != raw:
            raise Invalid(
                f"the bytes of blob {digest} have another digest", "it changed while it was sent; save it again"
            )
        self._count += 1
        return digest, content


def read_pack(parts: Iterable[bytes]) -> Iterator[tuple[str, bytes]]:
    """All blobs of a pack that comes in pieces; ends with the check that it was whole."""
    reader = PackReader()
    for part in parts:
        yield from reader.feed(part)
    reader.close()
