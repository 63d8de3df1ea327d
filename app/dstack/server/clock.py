"""Where time, ids and randomness enter: one object, passed in, so that tests can hold it still."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from random import Random

from dstack.server.decide.names import propose_name


@dataclass
class Clock:
    """The real one. Leases are counted on wall time that a restart survives; a test replaces `now`."""

    random: Random = field(default_factory=secrets.SystemRandom)

    def now(self) -> float:
        """Seconds since the epoch, UTC."""
        return time.time()

    def new_id(self) -> str:
        """A fresh id that nobody else has."""
        return secrets.token_hex(10)

    def new_token(self) -> str:
        """A secret bearer token; the prefix lets scanners find leaked ones."""
        return f"dst_{secrets.token_urlsafe(32)}"

    def new_name(self) -> str:
        return propose_name(self.random)
