"""The parts of a running server, made once by bootstrap and handed to whoever needs them."""

from __future__ import annotations

from dataclasses import dataclass, field

from dstack.errors import NotConnected
from dstack.server.bus import Bus
from dstack.server.clock import Clock
from dstack.server.gateways.forge import Forge
from dstack.server.gateways.forge_facts import Place
from dstack.server.gateways.local_git import LocalGit
from dstack.server.gateways.mirrors import Mirrors
from dstack.server.gateways.notes_local import LocalNotes
from dstack.server.gateways.ports import Logs, Objects
from dstack.server.models import Repo
from dstack.server.rush import Rush
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
    mirrors: Mirrors
    notes: LocalNotes
    objects: Objects
    logs: Logs
    forge: Forge
    rush: Rush = field(default_factory=Rush)


def own_login(wiring: Wiring) -> str:
    """As whom our App acts at the forge; empty where there is none."""
    return f"{wiring.forge.slug}[bot]" if wiring.forge.slug else ""


def place_of(repo: Repo) -> Place:
    """Where a mirrored repo is on the forge. Raises NotConnected when our App may not act there (any more)."""
    if repo.installation_id is None:
        raise NotConnected(f"the App is not installed for {repo.full_name}", repo.problem)
    return Place(repo.installation_id, repo.owner, repo.name)
