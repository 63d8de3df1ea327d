"""What a runner has on its machine: how jobs are executed, its folders, and their upkeep. The loop decides when."""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import uv

from dstack.wire.runner import Capacity
from dstack_runner import sweep
from dstack_runner.attempt import Kit
from dstack_runner.caches import Caches
from dstack_runner.content.cache import BlobCache
from dstack_runner.environments import Environments
from dstack_runner.executors.base import JobUser
from dstack_runner.executors.choose import choose
from dstack_runner.probe import Probe, parse_gpus
from dstack_runner.settings import Settings
from dstack_runner.users import parse_uids
from dstack_runner.workspace import TRASH_MAX, Workspaces

log = logging.getLogger(__name__)
EVICT_EVERY = 60  # rounds: looking through large caches costs something itself
FULL_SHARE = 0.9  # from here on the trash is emptied at once, whatever it costs the next checkout


class Machine:
    """Made once per run, when the data folder is locked."""

    def __init__(self, settings: Settings) -> None:
        data = settings.data
        self._settings = settings
        self._records = data / "launches"
        self.spools = data / "spool"
        self.spools.mkdir(exist_ok=True, mode=0o700)
        self._swept = sweep.sweep(self._records) if self._records.is_dir() else []
        self._choice = choose(
            self._records,
            hidden=(data,),
            uids=parse_uids(settings.uids) if settings.uids else None,
            isolate=settings.isolate,
        )
        if self._choice.users is None:
            log.warning("jobs are not isolated from one another: %s", self._choice.why_not)
            if settings.untrusted:
                log.error(
                    "DSTACK_RUNNER_UNTRUSTED: this runner takes no untrusted work all the same, "
                    "for it cannot give jobs a user of their own: %s",
                    self._choice.why_not,
                )
        elif settings.untrusted:
            log.info("this runner also takes untrusted work: approved pull requests of forks")
        self._probe = Probe(parse_gpus(settings.gpus))
        self.kit = Kit(
            settings.server,
            self._choice.executor,
            Workspaces(data),
            Environments(data / "environments", Path(uv.find_uv_bin()), limit_bytes=settings.environments_bytes),
            Caches(data / "caches"),
            BlobCache(data / "blobs"),
        )
        self.kit.workspaces.discard_all()
        self._rounds = 0

    @property
    def is_isolated(self) -> bool:
        return self._choice.users is not None

    @property
    def swept(self) -> tuple[str, ...]:
        """The attempts whose processes an earlier runner left; they are gone now."""
        return tuple(self._swept)

    def capacity(self, lent: Collection[str]) -> Capacity:
        settings = self._settings
        return self._probe.capacity(
            slots=settings.slots,
            labels=settings.labels,
            isolated=self.is_isolated,
            untrusted=settings.untrusted and self.is_isolated,
            lent=lent,
        )

    @contextlib.contextmanager
    def user(self) -> Iterator[JobUser | None]:
        """A user for one attempt's job; None where jobs are not isolated."""
        if self._choice.users is None:
            yield None
            return
        with self._choice.users.lent() as user:
            yield user

    def tidy(self, is_idle: Callable[[], bool]) -> None:
        """One round of upkeep: while `is_idle`, or by force when there is too much."""
        workspaces = self.kit.workspaces
        usage = shutil.disk_usage(self._settings.data)
        is_full = usage.used > FULL_SHARE * usage.total
        if is_full or workspaces.trash_size() > TRASH_MAX:
            workspaces.empty_trash(lambda: True)
        elif is_idle():
            workspaces.empty_trash(is_idle)
        self._rounds += 1
        if is_full or self._rounds % EVICT_EVERY == 0:
            self.kit.environments.evict()
            self.kit.blobs.evict(self._settings.blobs_bytes)
        if not is_full and self._rounds % EVICT_EVERY == 0:
            workspaces.pack_mirrors(is_idle)  # which needs room for a while
