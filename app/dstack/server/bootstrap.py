"""Wires the server once: folders, lock, database, vault, gateways, and the first admin."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from dstack.errors import Conflict
from dstack.server.bus import Bus
from dstack.server.clock import Clock
from dstack.server.gateways.github import GitHub
from dstack.server.gateways.local_git import LocalGit
from dstack.server.gateways.logs_local import LocalLogs
from dstack.server.gateways.mirrors import Mirrors
from dstack.server.gateways.notes_local import LocalNotes
from dstack.server.gateways.objects_local import LocalObjects
from dstack.server.services.connect_github import connect_github
from dstack.server.services.manage_users import ensure_admin
from dstack.server.settings import Settings
from dstack.server.store.database import Database
from dstack.server.store.migrate import migrate
from dstack.server.vault import load_vault
from dstack.server.wiring import Wiring


@dataclass(frozen=True, slots=True)
class Started:
    """`first_token` is the admin's token at the very first start, else None."""

    wiring: Wiring
    first_token: str | None


@contextmanager
def start(settings: Settings, clock: Clock | None = None) -> Iterator[Started]:
    """A wired server, closed at the end. Raises Conflict when another one uses the data folder."""
    settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _only_one(settings), ExitStack() as closing:
        bus = Bus()
        db = Database(settings.data / "dstack.db", bus)
        closing.callback(db.close)
        migrate(db.engine, db.path)
        objects = LocalObjects(settings.data / "objects")
        closing.callback(objects.close)
        github = GitHub(settings.github_api_url, settings.github_url)
        closing.callback(github.close)
        git = LocalGit(settings.data / "repos")
        wiring = Wiring(
            settings=settings,
            bus=bus,
            db=db,
            clock=clock or Clock(),
            vault=load_vault(settings.data / "secret.key"),
            git=git,
            mirrors=Mirrors(git, settings.github_url),
            notes=LocalNotes(git),
            objects=objects,
            logs=LocalLogs(settings.data / "logs"),
            forge=github,
        )
        connect_github(wiring)
        first = db.write(lambda s: ensure_admin(s, settings.admin_token, wiring.clock))
        yield Started(wiring, first)


@contextmanager
def _only_one(settings: Settings) -> Iterator[None]:
    """Two servers on one SQLite file would each think they alone write it."""
    path = settings.data / "server.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(
                f"another server uses {settings.data}", "Stop it first, or choose another folder with DSTACK_DATA."
            ) from None
        yield
    finally:
        os.close(descriptor)
