"""The tokens of installations: made when needed, used until shortly before they end, forgotten when refused."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from dstack.server.gateways.turns import Turns

SPARE_S = 120.0  # a token that ends sooner is not used any more


@dataclass(frozen=True, slots=True)
class Scope:
    """What a token opens: an installation, or of one repository of it the contents alone (`read` or `write`)."""

    installation: int
    repository: str = ""
    contents: str = ""


@dataclass(frozen=True, slots=True)
class Token:
    """`life_s`: how long it is good for, from when GitHub gave it."""

    value: str = field(repr=False)
    life_s: float


class Tokens:
    """One token a scope; several threads that need the same one wait for one call."""

    def __init__(self, make: Callable[[Scope], Token]) -> None:
        self._make = make
        self._guard = threading.Lock()
        self._turns = Turns[Scope]()
        self._held: dict[Scope, tuple[str, float]] = {}

    def get(self, scope: Scope, *, kept: bool = True) -> str:
        """One that is held, unless `kept` is off."""
        with self._turns.of(scope):
            value, until = self._held.get(scope, ("", 0.0))
            if kept and time.monotonic() < until:
                return value
            made = self._make(scope)
            self._held[scope] = (made.value, time.monotonic() + made.life_s - SPARE_S)
            return made.value

    def forget(self, scope: Scope, value: str) -> None:
        """GitHub refused this one. Another thread may have a newer one already: that stays."""
        with self._guard:
            if self._held.get(scope, ("", 0.0))[0] == value:
                del self._held[scope]
