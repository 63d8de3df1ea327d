"""Finds the handler of a kind of delivery, and of an event of a forge; handlers register themselves by decorator."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from dstack.server.models import Delivery, Repo

if TYPE_CHECKING:
    from dstack.server.wiring import Wiring

Handler = Callable[["Wiring", Delivery], None]
RepoHandler = Callable[["Wiring", Delivery, Repo, Any], None]
AppHandler = Callable[["Wiring", Delivery, Any], None]
R = TypeVar("R", bound=RepoHandler)
A = TypeVar("A", bound=AppHandler)

HANDLERS: dict[str, Handler] = {}
REPO_EVENTS: dict[type, RepoHandler] = {}
APP_EVENTS: dict[type, AppHandler] = {}


def handles(kind: str) -> Callable[[Handler], Handler]:
    """Mark the function that handles deliveries of this kind. It may run twice for one delivery."""

    def register(handler: Handler) -> Handler:
        HANDLERS[kind] = handler
        return handler

    return register


def handles_event(kind: type) -> Callable[[R], R]:
    """Mark the function that handles this event of the forge in a repository where our App may act: it is given the
    repo and the event, and settles the delivery. It may run twice."""

    def register(handler: R) -> R:
        REPO_EVENTS[kind] = handler
        return handler

    return register


def handles_app_event(kind: type) -> Callable[[A], A]:
    """The same for an event about the App itself, or about which repositories there are: it is given the event."""

    def register(handler: A) -> A:
        APP_EVENTS[kind] = handler
        return handler

    return register
