"""The runner itself: signs in, asks for work, takes what is offered, and leaves in peace.

Threads: one polls, one renews leases, one tidies when idle, and one carries each attempt.
"""

from __future__ import annotations

import logging
import threading

from dstack.errors import DstackError, Invalid, NotSignedIn, UnsupportedVersion
from dstack.wire.runner import RENEW_EVERY_S, Poll, Polled
from dstack_runner.ends import tell_lost
from dstack_runner.live import LiveAttempts
from dstack_runner.machine import Machine
from dstack_runner.server import Server, delays
from dstack_runner.session import LiveRecord, Session
from dstack_runner.settings import Settings
from dstack_runner.shutdown import Shutdown
from dstack_runner.signing_in import sign_in

log = logging.getLogger(__name__)
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
        self.live: LiveAttempts | None = None  # once signed in
        self.polling: threading.Thread | None = None
        self._session = Session(settings.data)
        self._failure: DstackError | None = None

    def run(self) -> None:
        """Work until shut down. Raises what makes going on impossible: NotSignedIn, UnsupportedVersion, Conflict."""
        self._session.open()
        try:
            machine = Machine(self.settings)
            if machine.swept:
                log.warning("an earlier runner left processes of %s: ended", ", ".join(machine.swept))
            server = sign_in(self.settings, self._session, machine.capacity(()), self.shutdown)
            if server is not None:
                self._work(server, machine)
        finally:
            self._session.close()
        if self._failure is not None:
            raise self._failure

    def _work(self, server: Server, machine: Machine) -> None:
        live = self.live = LiveAttempts(
            server, machine, self._session, self.shutdown,
            offline_limit_s=self.settings.offline_limit_s, renew_every_s=self._renew_every_s,
        )  # fmt: skip
        live.start()
        self._report_lost(server, machine)
        self.polling = threading.Thread(target=self._poll_on, args=(server.another(), live), name="poll", daemon=True)
        self.polling.start()
        threading.Thread(target=self._tidy_on, args=(machine, live), name="tidy", daemon=True).start()
        while not self.shutdown.draining.is_set():
            self.shutdown.change.wait()
        log.info("leaving: no new jobs; %d live", len(live.names))
        _say_draining(server.another(), live)
        live.wait()
        live.close()
        log.info("left")

    # Asking for work

    def _poll_on(self, server: Server, live: LiveAttempts) -> None:
        try:
            self._poll_until_left(server, live)
        finally:
            server.close()

    def _poll_until_left(self, server: Server, live: LiveAttempts) -> None:
        waits = delays()
        while self._failure is None and not self._needs_no_more(live):
            try:
                polled = server.poll(Poll(live.capacity(), live.names, draining=self.shutdown.draining.is_set()))
            except (NotSignedIn, UnsupportedVersion) as error:
                self._give_up(error)
                return
            except DstackError as error:
                log.warning("no work to be had: %s", error.message)
                self.shutdown.now.wait(next(waits))
                continue
            self.online.set()
            waits = delays()
            _heed(polled, live)

    def _needs_no_more(self, live: LiveAttempts) -> bool:
        """Whether there is nothing to hear any more: no offers, and for jobs that end now the renewals tell enough."""
        return self.shutdown.now.is_set() or (self.shutdown.draining.is_set() and not live.names)

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

    # What an earlier process left, and upkeep

    def _report_lost(self, server: Server, machine: Machine) -> None:
        records = self._session.left_over()
        if records:
            threading.Thread(target=self._tell_lost, args=(server, machine, records), name="lost", daemon=True).start()

    def _tell_lost(self, server: Server, machine: Machine, records: tuple[LiveRecord, ...]) -> None:
        for record in records:
            tell_lost(server, record, machine.spools, self.shutdown.now)
            self._session.end(record.attempt)

    def _tidy_on(self, machine: Machine, live: LiveAttempts) -> None:
        """Delete what is no longer needed while nothing runs, or when it has become too much."""
        while not self.shutdown.draining.wait(TIDY_EVERY_S):
            try:
                machine.tidy(lambda: live.is_idle)
            except OSError as error:
                log.warning("not everything could be tidied away: %s", error)
            except Exception:
                log.exception("tidying broke; the next round follows")


def _heed(polled: Polled, live: LiveAttempts) -> None:
    for stop in polled.stops:
        live.stop(stop)
    for offer in polled.offers:
        try:
            live.take(offer)
        except Invalid as error:
            log.error("an offer is not taken: %s", error.message)


def _say_draining(server: Server, live: LiveAttempts) -> None:
    try:
        server.poll(Poll(live.capacity(), live.names, wait_s=0, draining=True))
    except DstackError as error:
        log.info("the server could not be told that this runner leaves: %s", error.message)
    finally:
        server.close()
