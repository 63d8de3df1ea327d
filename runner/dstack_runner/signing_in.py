"""How a runner comes to its own credential: the one it keeps, or a new one for a registration token."""

from __future__ import annotations

import logging

from dstack.errors import DstackError, NotSignedIn
from dstack.version import __version__
from dstack.wire.runner import Capacity, Registration, Renewal
from dstack_runner.server import Server, persist
from dstack_runner.session import Credential, Session
from dstack_runner.settings import Settings
from dstack_runner.shutdown import Shutdown

log = logging.getLogger(__name__)


def sign_in(settings: Settings, session: Session, capacity: Capacity, shutdown: Shutdown) -> Server | None:
    """The server, signed in to as this runner; None when asked to leave before it ever answered. Raises what makes
    going on impossible: NotSignedIn, UnsupportedVersion."""
    known = session.credential(settings.server, settings.name)
    if known is not None and settings.token and not _is_welcome(known):
        session.forget()
        known = None  # the server was set up anew: we may register again
    credential = known or _register(settings, session, capacity, shutdown)
    return Server(settings.server, credential.token) if credential is not None else None


def _is_welcome(known: Credential) -> bool:
    """Whether the server still knows a credential; one that cannot be asked now is asked again by polling."""
    server = Server(known.server, known.token)
    try:
        server.renew(Renewal({}))
    except NotSignedIn:
        return False
    except DstackError as error:
        log.info("the server was not asked about this runner: %s", error.message)
    finally:
        server.close()
    return True


def _register(settings: Settings, session: Session, capacity: Capacity, shutdown: Shutdown) -> Credential | None:
    if not settings.token:
        raise NotSignedIn(
            "this runner is not registered yet and has no token to register with",
            "set DSTACK_TOKEN or --token to a registration token (or an admin's), once",
        )
    server = Server(settings.server, settings.token)
    registration = Registration(settings.name, capacity, __version__)
    try:
        answer = persist(
            lambda: server.register(registration),
            shutdown.draining,
            on_wait=lambda error: log.warning("%s", error.message),
        )
    except DstackError:
        if shutdown.draining.is_set():
            return None
        raise
    finally:
        server.close()
    credential = Credential(settings.server, answer.id, settings.name, answer.token)
    session.keep(credential)
    log.info("registered as %s at %s", answer.name, settings.server)
    return credential
