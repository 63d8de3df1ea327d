"""The parts of a running server, made once by bootstrap and handed to whoever needs them."""

from __future__ import annotations

from dataclasses import dataclass

from dstack.server.bus import Bus
from dstack.server.clock import Clock
from dstack.server.gateways.forge import Forge
from dstack.server.gateways.local_git import LocalGit
from dstack.server.gateways.ports import Logs, Objects
from dstack.server.settings import Settings
from dstack.server.store.database import Database
from dstack.server.vault import Vault


@dataclass(frozen=True, slots=True)
class Wiring:
    settings: Settings
    bus: Bus
    db: Database
    clock: Clock
    vault: Vault
    git: LocalGit
    objects: Objects
    logs: Logs
    forge: Forge
