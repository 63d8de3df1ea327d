"""What saving, fetching and logging ask of the server, for one attempt; `http.py` beside this file answers it.

All calls may be repeated. They raise `dstack.errors`: LeaseLost when the attempt is no longer ours, Unreachable or
Unavailable when a repetition may succeed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import BinaryIO, Protocol

from dstack.wire.runner import ArtifactSaved, SaveArtifact


class ContentApi(Protocol):
    def missing(self, digests: Iterable[str]) -> set[str]:
        """Those the store lacks."""

    def put_blob(self, digest: str, file: BinaryIO, size: int) -> None:
        """Send `size` bytes from where `file` stands. Raises Invalid when they are not what `digest` says."""

    def put_pack(self, pack: bytes) -> None:
        """Send a pack (see `dstack.wire.pack`)."""

    def get_blob(self, digest: str) -> Iterator[bytes]:
        """The bytes of a blob in pieces. Raises NotFound."""

    def get_pack(self, digests: Iterable[str]) -> Iterator[bytes]:
        """Small blobs as the bytes of one pack, in pieces. Raises NotFound."""

    def get_manifest(self, digest: str) -> bytes: ...

    def save_artifact(self, artifact: SaveArtifact) -> ArtifactSaved:
        """Make an artifact visible. Raises Invalid while the store lacks one of its blobs."""


class LogApi(Protocol):
    def put_log(self, offset: int, data: bytes) -> int:
        """Append log bytes; the size of the stored log. Raises OffsetMismatch (with `expected`) for a gap."""
