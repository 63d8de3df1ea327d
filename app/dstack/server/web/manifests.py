"""Keeps the manifests read last: who downloads an artifact file by file asks for the same one each time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar

from dstack.server.gateways.ports import Objects
from dstack.wire.manifest import Manifest, decode_manifest

T = TypeVar("T")
_MOST_FILES = 50_000  # of all kept together; some 300 bytes each


class Kept(Generic[T]):
    """Values by name, the longest unused let go first, so that their sizes together stay under `most`. One that is
    larger than that alone is made anew each time, or with `keeps_latest` stays until the next one comes."""

    def __init__(self, size_of: Callable[[T], int], most: int, *, keeps_latest: bool = False) -> None:
        self._size_of, self._most, self._least = size_of, most, int(keeps_latest)
        self._values: OrderedDict[str, T] = OrderedDict()
        self._held = 0
        self._lock = Lock()

    def get(self, name: str, make: Callable[[], T]) -> T:
        """The value, made if it is not kept. Made outside the lock: a large one keeps nobody else waiting."""
        with self._lock:
            if name in self._values:
                self._values.move_to_end(name)
                return self._values[name]
        value = make()
        size = self._size_of(value)
        with self._lock:
            if name not in self._values:
                self._values[name] = value
                self._held += size
            while self._held > self._most and len(self._values) > self._least:
                _, old = self._values.popitem(last=False)
                self._held -= self._size_of(old)
        return value


_kept: Kept[Manifest] = Kept(lambda manifest: len(manifest.files), _MOST_FILES)


def manifest_of(objects: Objects, digest: str) -> Manifest:
    """The manifest that `digest` names. Raises NotFound."""
    return _kept.get(digest, lambda: decode_manifest(b"".join(objects.read(digest))))
