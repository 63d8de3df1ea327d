"""Finds the handler of a kind of delivery; handlers register themselves by decorator."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from dstack.server.models import Delivery

if TYPE_CHECKING:
    from dstack.server.wiring import Wiring

Handler = Callable[["Wiring", Delivery], None]

HANDLERS: dict[str, Handler] = {}


def handles(kind: str) -> Callable[[Handler], Handler]:
    """Mark the function that handles deliveries of this kind. It may run twice for one delivery."""

    def register(handler: Handler) -> Handler:
        HANDLERS[kind] = handler
        return handler

    return register
