"""Tells whom workflows name under `notify:` how a run ended; a receiver that does not answer is tried again."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from sqlmodel import Session

from dstack.errors import DstackError, Invalid, Unavailable
from dstack.server.gateways.webhook_out import post_json
from dstack.server.models import OutboxMark, Run
from dstack.server.report.ends import end_of, is_wanted
from dstack.server.report.message import json_message, slack_message
from dstack.server.store import reports
from dstack.server.store.ends import end_before
from dstack.server.store.outbox import NOTIFY, VERDICT, hold_mark, marks_due, postpone_mark
from dstack.server.store.repos import repo_by_id
from dstack.server.store.secrets import secret_by_name
from dstack.server.store.views import view_run
from dstack.server.wiring import Wiring

REST_S: Final = (10.0, 60.0)  # before the second and the third try
_SOON_S: Final = 1.0
_WAIT_S: Final = 10.0  # for the verdict, at most
_AT_ONCE = 4  # receivers that hang hold up three others at most
log = logging.getLogger(__name__)


def send_notifications(wiring: Wiring) -> int:
    """Send every message that is due, a few side by side; how many there were."""
    marks = wiring.db.read(lambda s: marks_due(s, NOTIFY, wiring.clock.now()))
    for start in range(0, len(marks), _AT_ONCE):
        if wiring.bus.is_closed:  # the server stops: the rest is sent after its start
            break
        with ThreadPoolExecutor(_AT_ONCE, "dstack-notify") as threads:
            list(threads.map(lambda mark: _send_one(wiring, mark), marks[start : start + _AT_ONCE]))
    return len(marks)


@dataclass(frozen=True, slots=True)
class _Loaded:
    """`message` is None where nobody asked to be told."""

    run: Run
    message: dict[str, Any] | None
    is_judged: bool


def _send_one(wiring: Wiring, mark: OutboxMark) -> None:
    """One try. A crash between the receiver's answer and our note of it sends the message again."""
    now = wiring.clock.now()
    try:
        loaded = wiring.db.read(lambda s: _load(s, mark, wiring.settings.public_url))
        if loaded and not loaded.is_judged and now - (loaded.run.finished_at or 0) < _WAIT_S:
            wiring.db.write(lambda s: hold_mark(s, mark, now + _SOON_S))
            return
        if loaded and loaded.message is not None:
            post_json(_address(wiring, loaded.run), loaded.message, private=wiring.settings.notify_private)
    except Unavailable as error:
        _try_again(wiring, mark, error, now)
    except DstackError as error:
        _give_up(wiring, mark, error)
    else:
        wiring.db.write(lambda s: reports.finish(s, mark))


def _load(session: Session, mark: OutboxMark, url: str) -> _Loaded | None:
    run = session.get(Run, int(reports.split_target(mark)[1]))
    if run is None:
        return None
    is_judged = session.get(OutboxMark, (VERDICT, mark.target)) is None
    return _Loaded(run, _message(session, run, url), is_judged)


def _message(session: Session, run: Run, url: str) -> dict[str, Any] | None:
    """Runs of forks tell nobody: their words are a stranger's."""
    end = end_of(run, end_before(session, run))
    if run.notify is None or not run.trusted or not is_wanted(end, run.notify["on"]):
        return None
    if run.notify["format"] == "json":
        return json_message(view_run(session, run), end, url)
    base = session.get(Run, run.base_run_id) if run.base_run_id is not None else None
    return slack_message(run, repo_by_id(session, run.repo_id).full_name, end, base, url)


def _address(wiring: Wiring, run: Run) -> str:
    assert run.notify is not None
    name = run.notify["secret"]
    if not name:
        return str(run.notify["url"])
    secret = wiring.db.read(lambda s: secret_by_name(s, run.repo_id, name))
    if secret is None:
        raise Invalid(f"there is no secret {name} to notify", f"Set it: `dstack secrets set {name}`.")
    return wiring.vault.open_secret(secret).strip()


def _try_again(wiring: Wiring, mark: OutboxMark, error: Unavailable, now: float) -> None:
    if mark.tries >= len(REST_S):
        _give_up(wiring, mark, error)
    else:
        wiring.db.write(lambda s: postpone_mark(s, mark, now + REST_S[mark.tries], error.message))


def _give_up(wiring: Wiring, mark: OutboxMark, error: DstackError) -> None:
    log.warning("notify %s: %s", mark.target, error.message, extra={"action": "notify"})
    problem = f"{error.message}. {error.hint}".removesuffix(". ")
    wiring.db.write(lambda s: reports.park(s, mark, problem))
