"""What the server asks of a place that keeps blobs and of one that keeps logs; the gateways beside this file answer it.

Both are plain sync: the web edge hands over to a thread. Every implementation passes the suites in `tests/contract`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

READ_BYTES = 1024 * 1024  # the size of the pieces that `read` gives; memory per reader


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """A blob as pruning sees it; `used_at` (seconds since the epoch) is when it was written or last asked for."""

    digest: str
    size: int
    used_at: float


class BlobWriter(Protocol):
    """One blob on its way in. Nothing of it is visible before `commit`; leaving without one is `abort`."""

    def write(self, data: bytes) -> None: ...

    def commit(self) -> int:
        """Check size and digest, make it durable and visible; its size. Raises Invalid for other bytes."""

    def abort(self) -> None:
        """Forget it. Safe to repeat and after `commit`."""


class PackWriter(Protocol):
    """Many small blobs on their way in, made durable by one sync for all of them."""

    def add(self, digest: str, data: bytes) -> None:
        """`data` has been checked against `digest` by the caller (the pack reader does)."""

    def commit(self) -> int:
        """Make all of them durable and visible; how many were new."""

    def abort(self) -> None:
        """Forget those not committed. Safe to repeat and after `commit`."""


class Objects(Protocol):
    """Blobs by digest: immutable, visible only when whole and checked (I6).

    All calls may run at once, also for the same digest. A full or broken disk raises Unavailable and changes nothing.
    """

    def missing(self, digests: Iterable[str]) -> list[str]:
        """Those not held, in the order given. Those held count as used now, so that pruning leaves them alone."""

    def size(self, digest: str) -> int:
        """Raises NotFound."""

    def read(self, digest: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes from `start` up to `end` in pieces of at most `READ_BYTES`. Raises NotFound at once, not later."""

    def writer(self, digest: str, size: int) -> BlobWriter: ...

    def pack_writer(self) -> PackWriter: ...

    def put(self, digest: str, data: bytes) -> None:
        """One small blob that is in memory (a manifest), checked, durable and visible."""

    def sync(self) -> None:
        """After this, every blob committed before survives a power cut under its name. Once per artifact."""

    def delete(self, digest: str, unused_since: float | None = None) -> int:
        """The bytes freed; 0 where there was none. One used at or after `unused_since` stays, decided in one step:
        a save that has just been told the blob is here can rely on it."""

    def stored(self) -> Iterator[StoredBlob]:
        """All blobs, in no order; one written or deleted meanwhile may or may not be there."""

    def sweep(self, older_than: float) -> int:
        """Remove what writers that died left behind before `older_than` (seconds since the epoch), and give the room of
        deleted blobs back to the disk. The bytes freed beyond those that `delete` told of."""


class Logs(Protocol):
    """The log of an attempt: bytes, appended by offset. What was acknowledged is readable, in order, once (I5).

    Calls for different attempts run at once; appends to one are taken one after another.
    """

    def append(self, attempt: str, offset: int, data: bytes) -> int:
        """Add bytes that start at `offset`; the new size. Bytes already there may be sent again.

        Raises OffsetMismatch (with `expected`) for a gap, Conflict when bytes sent again differ, Unavailable when the
        disk is full (nothing was added).
        """

    def size(self, attempt: str) -> int:
        """0 where nothing was logged."""

    def read(self, attempt: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes from `start` up to `end` (None: as far as there are now) in pieces of at most `READ_BYTES`."""

    def tail(self, attempt: str, lines: int, max_bytes: int = READ_BYTES) -> tuple[int, bytes]:
        """The last whole `lines` within the last `max_bytes`, and the offset they begin at."""

    def finish(self, attempt: str) -> int:
        """The log is complete: make it durable; its size."""

    def delete(self, attempt: str) -> int:
        """The bytes freed; 0 where there was none."""
