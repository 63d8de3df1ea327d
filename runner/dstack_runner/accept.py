"""Turns an offer into its order, however long the answer takes to come through."""

from __future__ import annotations

import logging
import threading

from dstack.errors import Conflict, DstackError, NotFound
from dstack.wire.runner import Offer, Order
from dstack_runner.control import Control
from dstack_runner.ends import tell_not_begun
from dstack_runner.server import Server, persist

log = logging.getLogger(__name__)


def accept(server: Server, offer: Offer, control: Control, give_up: threading.Event) -> Order | None:
    """The order; None when the offer is not ours any more (it expired, the job was stopped), or was given back.

    An answer that was lost may have made the attempt ours, and then nobody else does it: so the server is asked until
    it says, or somebody asks the attempt to end. What ends otherwise is given back, unless `give_up` is set meanwhile.
    """
    try:
        return persist(
            lambda: server.accept(offer.attempt, offer.lease),
            control.asked,
            on_wait=lambda error: log.warning("offer %s: %s", offer.attempt, error.message),
        )
    except (Conflict, NotFound) as error:
        log.warning("offer %s is not ours any more: %s", offer.attempt, error.message)
    except DstackError as error:
        log.warning("offer %s is given back: %s", offer.attempt, error.message)
        tell_not_begun(server, offer.attempt, offer.lease, error, control.stop, give_up)
    return None
