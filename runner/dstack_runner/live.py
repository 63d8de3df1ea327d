"""The attempts this runner has now: each carried by a thread of its own, its lease kept, stopped when asked, ended.

What is carried out, and how, is left to `execute`; when to ask for more, or to leave, to `loop`.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import ExitStack

from dstack.wire.runner import Capacity, Offer, Order, Stop
from dstack.wire.states import Reason
from dstack_runner.accept import accept
from dstack_runner.control import Control
from dstack_runner.ends import tell_not_begun
from dstack_runner.execute import Execution
from dstack_runner.lease import LeaseKeeper
from dstack_runner.machine import Machine
from dstack_runner.server import Server
from dstack_runner.session import LiveRecord, Session, check_attempt
from dstack_runner.shutdown import Shutdown

log = logging.getLogger(__name__)
IDLE_S = 60.0


class LiveAttempts:
    """Every method may be called from any thread. Leases are kept from `start` to `close`."""

    def __init__(
        self,
        server: Server,
        machine: Machine,
        session: Session,
        shutdown: Shutdown,
        *,
        offline_limit_s: float,
        renew_every_s: float,
    ) -> None:
        self._server, self._machine, self._session, self._shutdown = server, machine, session, shutdown
        self._keeper = LeaseKeeper(server.another(), self.stop, offline_limit_s=offline_limit_s, every_s=renew_every_s)
        self._controls: dict[str, Control] = {}
        self._lent: dict[str, tuple[str, ...]] = {}
        self._guard = threading.Condition()
        self._idle_since = time.monotonic()

    def start(self) -> None:
        self._keeper.start()

    def close(self) -> None:
        self._keeper.close()

    @property
    def names(self) -> tuple[str, ...]:
        with self._guard:
            return tuple(self._controls)

    @property
    def is_idle(self) -> bool:
        return not self._controls and time.monotonic() - self._idle_since > IDLE_S

    def capacity(self) -> Capacity:
        """What the machine has, less what these attempts hold."""
        with self._guard:
            lent = {device for devices in self._lent.values() for device in devices}
        return self._machine.capacity(lent)

    def take(self, offer: Offer) -> None:
        """Begin with an offer, unless the runner is leaving; one we have already is an answer sent twice. Raises
        Invalid for a name that no attempt can have."""
        check_attempt(offer.attempt)
        with self._guard:
            if offer.attempt in self._controls or self._shutdown.draining.is_set():
                return
            control = self._controls[offer.attempt] = Control()
            self._lent[offer.attempt] = offer.devices
        threading.Thread(target=self._carry, args=(offer, control), name=offer.attempt, daemon=True).start()

    def stop(self, stop: Stop) -> None:
        with self._guard:
            control = self._controls.get(stop.attempt)
        if control is not None:
            log.info("attempt %s: stop (%s%s)", stop.attempt, stop.reason, ", lease lost" if stop.lost else "")
            control.request(stop)

    def wait(self) -> None:
        """Until there is none. Once the runner must leave now, they are stopped."""
        with self._guard:
            while self._controls:
                if self._shutdown.now.is_set():
                    self._stop_all()
                self._guard.wait(0.2)

    def _stop_all(self) -> None:
        for attempt, control in self._controls.items():
            if control.stop is None:
                control.request(Stop(attempt, Reason.PREEMPTED, 10))

    def _carry(self, offer: Offer, control: Control) -> None:
        try:
            self._begin(offer, control)
        except Exception:
            log.exception("attempt %s could not be carried out", offer.attempt)
        finally:
            self._keeper.drop(offer.attempt)
            self._session.end(offer.attempt)
            with self._guard:
                self._controls.pop(offer.attempt, None)
                self._lent.pop(offer.attempt, None)
                self._idle_since = time.monotonic()
                self._guard.notify_all()

    def _begin(self, offer: Offer, control: Control) -> None:
        trouble = self._note(offer)
        server = self._server.another()
        asked_at = time.monotonic()
        try:
            order = accept(server, offer, control, self._shutdown.now)
            if order is not None:
                self._keeper.hold(offer.attempt, offer.lease, order.lease_s, begun_at=asked_at)
                self._execute(order, offer, server, control, trouble)
        finally:
            server.close()

    def _note(self, offer: Offer) -> OSError | None:
        """What kept the offer from being noted: accepted all the same, its end can be told."""
        try:
            self._session.begin(LiveRecord(offer.attempt, offer.lease))
        except OSError as error:
            return error
        return None

    def _execute(self, order: Order, offer: Offer, server: Server, control: Control, trouble: OSError | None) -> None:
        with ExitStack() as stack:
            try:
                if trouble is not None:
                    raise trouble
                user = stack.enter_context(self._machine.user())
                kit, spools = self._machine.kit, self._machine.spools
                execution = Execution(order, offer.lease, kit, server, control, spools, user)
            except OSError as error:
                log.error("attempt %s cannot begin: %s", offer.attempt, error)
                if not control.lost.is_set():
                    tell_not_begun(server, offer.attempt, offer.lease, error, control.stop, control.lost)
                return
            execution.run()
