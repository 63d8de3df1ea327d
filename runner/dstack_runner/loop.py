"""The runner itself: asks for work, accepts offers, executes each in a thread, and leaves in peace.

Threads: one polls, one renews leases, one tidies when idle, and one carries each attempt. `run` returns the exit code.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from itertools import islice
from typing import TypeVar

from dstack.errors import DstackError, Invalid, NotSignedIn, UnsupportedVersion
from dstack.version import __version__
from dstack.wire.runner import RENEW_EVERY_S, Capacity, Offer, Order, Poll, Polled, Registration, Renewal, Stop
from dstack.wire.states import Reason
from dstack_runner.control import Control
from dstack_runner.execute import Execution, tell_not_begun
from dstack_runner.lease import LeaseKeeper
from dstack_runner.machine import Machine
from dstack_runner.server import Server, delays, persist, worth_retrying
from dstack_runner.session import Credential, LiveRecord, Session, check_attempt
from dstack_runner.settings import Settings
from dstack_runner.shutdown import Shutdown

T = TypeVar("T")
log = logging.getLogger(__name__)
ACCEPT_TRIES = 5
IDLE_S = 60.0
TIDY_EVERY_S = 5.0


class Runner:
    """One runner on one data folder, which `run` opens and closes. `shutdown` may be asked from any thread."""

    def __init__(
        self, settings: Settings, *, shutdown: Shutdown | None = None, renew_every_s: float = RENEW_EVERY_S
    ) -> None:
        self._renew_every_s = renew_every_s
        self.settings = settings
        self.shutdown = shutdown or Shutdown()
        self.online = threading.Event()  # the server has answered a poll
        self._session = Session(settings.data)
        self._live: dict[str, Control] = {}
        self._lent: dict[str, tuple[str, ...]] = {}
        self._guard = threading.Condition()
        self.polling: threading.Thread | None = None
        self._idle_since = time.monotonic()
        self._failure: DstackError | None = None

    def run(self) -> None:
        """Work until shut down. Raises what makes going on impossible: NotSignedIn, UnsupportedVersion, Conflict."""
        self._session.open()
        try:
            self._machine = Machine(self.settings)
            if self._machine.swept:
                log.warning("an earlier runner left processes of %s: ended", ", ".join(self._machine.swept))
            self._server = self._sign_in()
            self._keeper = self._make_keeper()
            self._keeper.start()
            self._report_lost()
            self._work()
        except _Leaving:
            pass  # asked to leave before the server ever answered
        finally:
            self._session.close()
        if self._failure is not None:
            raise self._failure

    def _work(self) -> None:
        self.polling = threading.Thread(target=self._poll_on, name="poll", daemon=True)
        self.polling.start()
        tidy = threading.Thread(target=self._tidy_on, name="tidy", daemon=True)
        tidy.start()
        while not self.shutdown.draining.is_set():
            self.shutdown.change.wait()
        log.info("leaving: no new jobs; %d live", len(self._live))
        self._say_draining()
        self._wait_for_jobs()
        self._keeper.close()
        log.info("left")

    def _wait_for_jobs(self) -> None:
        with self._guard:
            while self._live:
                if self.shutdown.now.is_set():
                    self._stop_all()
                self._guard.wait(0.2)

    def _stop_all(self) -> None:
        for attempt, control in self._live.items():
            if control.stop is None:
                control.request(Stop(attempt, Reason.PREEMPTED, 10))

    # Signing in

    def _sign_in(self) -> Server:
        known = self._session.credential(self.settings.server, self.settings.name)
        if known is not None and self.settings.token and not self._is_welcome(known):
            self._session.forget()
            known = None  # the server was set up anew: we may register again
        credential = known or self._register()
        return Server(self.settings.server, credential.token)

    def _is_welcome(self, known: Credential) -> bool:
        """Whether the server still knows a credential; one that cannot be asked now is asked again by polling."""
        server = Server(self.settings.server, known.token)
        try:
            server.renew(Renewal({}))
        except NotSignedIn:
            return False
        except DstackError as error:
            log.info("the server was not asked about this runner: %s", error.message)
        finally:
            server.close()
        return True

    def _register(self) -> Credential:
        if not self.settings.token:
            raise NotSignedIn(
                "this runner is not registered yet and has no token to register with",
                "set DSTACK_TOKEN or --token to a registration token (or an admin's), once",
            )
        server = Server(self.settings.server, self.settings.token)
        registration = Registration(self.settings.name, self._capacity(), __version__)
        answer = self._while_staying(lambda: server.register(registration))
        credential = Credential(self.settings.server, answer.id, answer.name, answer.token)
        self._session.keep(Credential(self.settings.server, answer.id, self.settings.name, answer.token))
        log.info("registered as %s at %s", answer.name, self.settings.server)
        server.close()
        return credential

    def _while_staying(self, call: Callable[[], T]) -> T:
        try:
            return persist(call, self.shutdown.draining, on_wait=lambda error: log.warning("%s", error.message))
        except DstackError:
            if self.shutdown.draining.is_set():
                raise _Leaving from None
            raise

    # Offers

    def _poll_on(self) -> None:
        server = self._server.another()
        try:
            self._poll_until_left(server)
        finally:
            server.close()

    def _poll_until_left(self, server: Server) -> None:
        waits = delays()
        while not (self.shutdown.draining.is_set() and not self._live) and self._failure is None:
            try:
                polled = server.poll(self._poll())
            except (NotSignedIn, UnsupportedVersion) as error:
                self._give_up(error)
                return
            except DstackError as error:
                log.warning("no work to be had: %s", error.message)
                self.shutdown.now.wait(next(waits))
                continue
            self.online.set()
            waits = delays()
            self._heed(polled)

    def _heed(self, polled: Polled) -> None:
        for stop in polled.stops:
            self._stop(stop)
        for offer in polled.offers:
            try:
                self._take(offer)
            except Invalid as error:
                log.error("an offer is not taken: %s", error.message)

    def _give_up(self, error: DstackError) -> None:
        """The server will not have us: no more offers; live jobs go on while their leases are renewed."""
        if isinstance(error, NotSignedIn):
            self._session.forget()
            error = NotSignedIn(
                f"the server no longer knows this runner: {error.message}",
                "start it again with a registration token in DSTACK_TOKEN",
            )
        log.error("%s", error.message)
        self._failure = error
        self.shutdown.draining.set()
        self.shutdown.change.set()

    def _poll(self) -> Poll:
        with self._guard:
            live = tuple(self._live)
        draining = self.shutdown.draining.is_set()
        return Poll(self._capacity(), live, draining=draining)

    def _capacity(self) -> Capacity:
        with self._guard:
            lent = {device for devices in self._lent.values() for device in devices}
        return self._machine.capacity(lent)

    def _take(self, offer: Offer) -> None:
        """Begin with an offer in a thread of its own; one we have already is an answer sent twice."""
        check_attempt(offer.attempt)
        with self._guard:
            if offer.attempt in self._live or self.shutdown.draining.is_set():
                return
            control = self._live[offer.attempt] = Control()
            self._lent[offer.attempt] = offer.devices
        threading.Thread(target=self._carry, args=(offer, control), name=offer.attempt, daemon=True).start()

    def _carry(self, offer: Offer, control: Control) -> None:
        try:
            trouble = self._note(offer)
            server = self._server.another()
            order = self._accept(server, offer)
            if order is not None:
                self._keeper.hold(offer.attempt, offer.lease, order.lease_s)
                self._execute(order, offer, server, control, trouble)
            server.close()
        except Exception:
            log.exception("attempt %s could not be carried out", offer.attempt)
        finally:
            self._keeper.drop(offer.attempt)
            self._session.end(offer.attempt)
            with self._guard:
                self._live.pop(offer.attempt, None)
                self._lent.pop(offer.attempt, None)
                self._idle_since = time.monotonic()
                self._guard.notify_all()

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
                tell_not_begun(server, offer.attempt, offer.lease, error, control)
                return
            execution.run()

    def _accept(self, server: Server, offer: Offer) -> Order | None:
        """The order, or None when the offer is not ours any more (it expired, the job was stopped)."""
        for delay in islice(delays(), ACCEPT_TRIES):
            try:
                return server.accept(offer.attempt, offer.lease)
            except DstackError as error:
                log.warning("offer %s: %s", offer.attempt, error.message)
                if not worth_retrying(error):
                    return None
            time.sleep(delay)
        return None

    # Stops, leases, what an earlier process left

    def _stop(self, stop: Stop) -> None:
        with self._guard:
            control = self._live.get(stop.attempt)
        if control is not None:
            log.info("attempt %s: stop (%s%s)", stop.attempt, stop.reason, ", lease lost" if stop.lost else "")
            control.request(stop)

    def _make_keeper(self) -> LeaseKeeper:
        return LeaseKeeper(
            self._server.another(), self._stop,
            offline_limit_s=self.settings.offline_limit_s, every_s=self._renew_every_s,
        )  # fmt: skip

    def _report_lost(self) -> None:
        records = self._session.left_over()
        if records:
            threading.Thread(target=self._tell_lost, args=(records,), name="lost", daemon=True).start()

    def _tell_lost(self, records: tuple[LiveRecord, ...]) -> None:
        for record in records:
            self._machine.report_lost(self._server, record, self.shutdown.now)
            self._session.end(record.attempt)

    def _say_draining(self) -> None:
        try:
            server = self._server.another()
            server.poll(Poll(self._capacity(), tuple(self._live), wait_s=0, draining=True))
            server.close()
        except DstackError as error:
            log.info("the server could not be told that this runner leaves: %s", error.message)

    def _tidy_on(self) -> None:
        """Delete what is no longer needed while nothing runs, or when it has become too much."""
        while not self.shutdown.draining.wait(TIDY_EVERY_S):
            try:
                self._machine.tidy(self._is_idle)
            except OSError as error:
                log.warning("not everything could be tidied away: %s", error)
            except Exception:
                log.exception("tidying broke; the next round follows")

    def _is_idle(self) -> bool:
        return not self._live and time.monotonic() - self._idle_since > IDLE_S


class _Leaving(Exception):
    """The runner was asked to leave while it waited for the server."""
