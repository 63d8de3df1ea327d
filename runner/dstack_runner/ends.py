"""Tells the server how attempts ended, also those that never began and those whose runner died before it could."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from dstack.errors import Conflict, DstackError, Invalid, Malformed, NotFound, OffsetMismatch, TooLarge
from dstack.wire.runner import LEASE_HEADER, Finish, Stop
from dstack.wire.states import AttemptState, Reason
from dstack_runner.content.api import LogApi
from dstack_runner.content.http import HttpContent
from dstack_runner.logs import LogSender
from dstack_runner.outcome import judge, not_begun
from dstack_runner.server import Server, bearer, persist
from dstack_runner.session import LiveRecord
from dstack_runner.spool import Spool

log = logging.getLogger(__name__)


def tell_not_begun(
    server: Server, attempt: str, lease: str, error: Exception, stop: Stop | None, give_up: threading.Event
) -> None:
    """Tell of an attempt that could not even begin here, so that nobody waits for its lease to run out."""
    outcome = judge(not_begun(error), stop, None)
    finish = Finish(outcome.state, outcome.reason, outcome.message, machine_fault=outcome.machine_fault)
    send_finish(server, attempt, lease, finish, give_up)


def send_finish(server: Server, attempt: str, lease: str, finish: Finish, give_up: threading.Event) -> None:
    """Tell the end until it is acknowledged, or the server says that it is none of ours any more. One that the server
    cannot take is told without what the job left: untold, the attempt would be lost, and made anew in vain."""
    refused = _try_finish(server, attempt, lease, finish, give_up)
    if refused is not None:
        message = f"the server did not take what the job left: {refused.message}"[:1000]
        plain = Finish(AttemptState.FAILED, Reason.ARTIFACTS, message, log_bytes=finish.log_bytes)
        _try_finish(server, attempt, lease, plain, give_up)


def _try_finish(
    server: Server, attempt: str, lease: str, finish: Finish, give_up: threading.Event
) -> DstackError | None:
    """The refusal, where it is the content of `finish` that is refused."""
    try:
        persist(
            lambda: server.finish(attempt, lease, finish),
            give_up,
            on_wait=lambda error: log.warning("the end of %s is not told yet: %s", attempt, error.message),
        )
    except (Conflict, NotFound) as error:
        log.warning("attempt %s: %s", attempt, error.message)
    except DstackError as error:
        log.error("attempt %s: its end was refused: %s", attempt, error.message)
        return error if isinstance(error, (Invalid, Malformed, TooLarge)) else None
    return None


def tell_lost(server: Server, record: LiveRecord, spools: Path, give_up: threading.Event) -> None:
    """Tell of an attempt whose runner died: first what its log still holds, then that it is lost."""
    path = spools / f"{record.attempt}.log"
    if path.is_file():
        api = HttpContent(server.url, record.attempt, lambda: {**bearer(server.token), LEASE_HEADER: record.lease})
        _send_rest(api, Spool(path), give_up)
        api.close()
    message = "the runner was killed or its machine went down"
    finish = Finish(AttemptState.LOST, Reason.RUNNER_LOST, message, machine_fault=True)
    send_finish(server, record.attempt, record.lease, finish, give_up)


def _send_rest(api: LogApi, spool: Spool, give_up: threading.Event) -> None:
    """Send what the server lacks of a log that nobody writes any more, and forget it."""
    sent = 0
    try:
        sent = persist(lambda: api.put_log(spool.size, b""), give_up, on_wait=say_waiting)
    except OffsetMismatch as error:
        sent = error.expected
    except DstackError as error:
        log.warning("%s is not sent: %s", spool.path.name, error.message)
        spool.remove()
        return
    sender = LogSender(api, spool, sent=sent, on_wait=say_waiting)
    sender.start()
    while not sender.drain(0.5) and sender.error is None and not give_up.is_set():
        pass
    sender.stop()
    spool.remove()


def say_waiting(error: DstackError) -> None:
    log.info("a log waits for the server: %s", error.message)
