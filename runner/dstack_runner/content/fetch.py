"""Brings the blobs of a manifest into the runner's cache: only those it lacks, each checked as it enters."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

from dstack.errors import DstackError, Invalid
from dstack.wire.manifest import FileEntry, Manifest, decode_manifest
from dstack.wire.pack import read_pack
from dstack.wire.runner import SMALL_BLOB_BYTES
from dstack_runner.content.api import ContentApi
from dstack_runner.content.cache import BlobCache
from dstack_runner.content.save import packs
from dstack_runner.server import persist

CONNECTIONS = 4


def fetch_manifest(
    api: ContentApi,
    digest: str,
    *,
    give_up: threading.Event | None = None,
    on_wait: Callable[[DstackError], None] = lambda error: None,
) -> Manifest:
    """The manifest that `digest` names. Raises NotFound, Invalid when the server sends another."""
    data = persist(lambda: api.get_manifest(digest), give_up or threading.Event(), on_wait=on_wait)
    if hashlib.sha256(data).hexdigest() != digest:
        raise Invalid(f"the server sent another manifest for {digest}", "its store or the connection is damaged")
    return decode_manifest(data)


def fetch(
    api: ContentApi,
    manifest: Manifest,
    cache: BlobCache,
    *,
    give_up: threading.Event | None = None,
    on_bytes: Callable[[int], None] = lambda count: None,
    on_wait: Callable[[DstackError], None] = lambda error: None,
) -> int:
    """Fill the cache; the bytes that had to be fetched. The caller holds the manifest's blobs in the cache.

    `on_bytes` is told of content as it comes in, from several threads. Raises NotFound when the store lost a blob,
    Invalid when it sends other bytes.
    """
    event = give_up or threading.Event()
    lacking = [e for e in {f.digest: f for f in manifest.files if f.target is None}.values() if not cache.has(e.digest)]

    def blob(entry: FileEntry) -> None:
        persist(lambda: cache.add(entry.digest, api.get_blob(entry.digest)), event, on_wait=on_wait)
        on_bytes(entry.size)

    def pack(group: list[FileEntry]) -> None:
        persist(lambda: _take_pack(api, group, cache), event, on_wait=on_wait)
        on_bytes(sum(entry.size for entry in group))

    with ThreadPoolExecutor(CONNECTIONS, "fetch") as pool:
        jobs = [pool.submit(blob, entry) for entry in lacking if entry.size > SMALL_BLOB_BYTES]
        jobs += [pool.submit(pack, group) for group in packs(e for e in lacking if e.size <= SMALL_BLOB_BYTES)]
        done, waiting = wait(jobs, return_when=FIRST_EXCEPTION)
        for job in waiting:
            job.cancel()
        for job in done:
            job.result()
    return sum(entry.size for entry in lacking)


def _take_pack(api: ContentApi, group: list[FileEntry], cache: BlobCache) -> None:
    wanted = {entry.digest for entry in group}
    for digest, data in read_pack(api.get_pack(sorted(wanted))):
        if digest not in wanted:
            raise Invalid(f"the server sent blob {digest}, which was not asked for")
        wanted.discard(digest)
        cache.add(digest, [data])
    if wanted:
        raise Invalid(f"the server left out {len(wanted)} of the blobs asked for")
