"""Artifacts of one attempt: joins scanning, saving, fetching and mounting to the attempt's connection and lease."""

from __future__ import annotations

import logging
from collections.abc import Callable, Container
from dataclasses import replace
from pathlib import Path

from dstack.errors import DstackError
from dstack.wire.runner import ArtifactSaved, Input
from dstack_runner.content.api import ContentApi
from dstack_runner.content.cache import BlobCache
from dstack_runner.content.fetch import fetch, fetch_manifest
from dstack_runner.content.mount import Owner, mount
from dstack_runner.content.save import save
from dstack_runner.content.scan import scan
from dstack_runner.control import Control
from dstack_runner.executors.base import JobUser
from dstack_runner.words import counted

log = logging.getLogger(__name__)


class Artifacts:
    """Waits for a server that is away as long as the lease lasts; `say` writes to the job's log. `show` hides the
    job's secrets in a text that goes to the server."""

    def __init__(
        self,
        api: ContentApi,
        cache: BlobCache,
        control: Control,
        say: Callable[[str], None],
        show: Callable[[str], str] = lambda text: text,
    ) -> None:
        self._api = api
        self._cache = cache
        self._control = control
        self._say = say
        self._show = show

    def mount(self, item: Input, checkout: Path, user: JobUser | None) -> None:
        """Put an artifact into the checkout. Raises Invalid, NotFound, or what the server last said."""
        give_up = self._control.asked
        manifest = fetch_manifest(self._api, item.manifest, give_up=give_up, on_wait=self._on_wait)
        owner = Owner(user.uid, user.gid) if user is not None else None
        with self._cache.hold(manifest.files):
            fetched = fetch(self._api, manifest, self._cache, give_up=give_up, on_wait=self._on_wait)
            mounted = mount(manifest, self._cache, checkout, owner=owner, copy=item.copy)
        source = f" from {item.source}" if item.source else ""
        came = f"{fetched} bytes fetched" if fetched else "nothing to fetch"
        size = f"{counted(mounted.files, 'file')}, {mounted.bytes} bytes"
        self._say(f"input {item.path}{source}: {size} by {mounted.how}, {came}")

    def save(self, checkout: Path, path: str, tracked: Container[str]) -> tuple[ArtifactSaved, tuple[str, ...]]:
        """Store what `path` names; what was left out and why."""
        found = scan(checkout, path, tracked)
        found = replace(found, skipped=tuple(map(self._show, found.skipped)))
        saved = save(self._api, found, give_up=self._control.lost, on_wait=self._on_wait)
        return saved.artifact, found.skipped

    def _on_wait(self, error: DstackError) -> None:
        log.info("waiting for the server: %s", error.message)
