"""Keeps one issue for a workflow that fails on the default branch: opened, kept as it is, closed on recovery."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from sqlmodel import Session

from dstack.errors import ForgeRefused
from dstack.server.gateways.forge_facts import Place
from dstack.server.gateways.forge_writes import IssueWrite
from dstack.server.models import ForgeReport, OutboxMark, Run
from dstack.server.report.ends import is_failure
from dstack.server.report.issue import LOG_BYTES, issue_of, marker
from dstack.server.report.status import is_about_to_be_judged
from dstack.server.store import reports
from dstack.server.store.attempts import attempts_of_jobs
from dstack.server.store.ends import ends_on_default_branch
from dstack.server.store.jobs import jobs_of_run
from dstack.server.store.outbox import ISSUE
from dstack.server.store.repos import repo_by_id
from dstack.server.wiring import Wiring, place_of
from dstack.wire.states import JobState

Write = Callable[[], None]
_MOST_ENDS: Final = 30  # looked at for since when it fails
_LOG_LINES: Final = 60
_SOON_S: Final = 2.0
_OPEN, _CLOSED = "open", "closed"


@dataclass(frozen=True, slots=True)
class _Loaded:
    repo_id: int
    workflow: str
    place: Place
    branch: str
    ends: Sequence[Run]
    attempt: str  # whose log tells of the failure
    sent: ForgeReport | None

    @property
    def was_told(self) -> str:
        """What the issue was when it was last written: open, closed, or empty."""
        return self.sent.digest.partition(":")[0] if self.sent else ""


def send(wiring: Wiring, mark: OutboxMark) -> Generator[Write, None, float | None]:
    """See `outbox_sending`."""
    if not wiring.settings.github_issues:
        return None
    loaded = wiring.db.read(lambda session: _load(session, mark))
    if not loaded.ends:
        return None
    now = wiring.clock.now()
    if is_about_to_be_judged(loaded.ends[0], now):
        return now + _SOON_S
    issue = issue_of(loaded.workflow, loaded.branch, loaded.ends, wiring.settings.public_url, _log(wiring, loaded))
    if issue.is_open:
        yield from _keep_open(wiring, loaded, issue)
    elif loaded.sent is not None and loaded.was_told != _CLOSED:
        yield from _close(wiring, loaded, issue)
    return None


def _keep_open(wiring: Wiring, loaded: _Loaded, issue: IssueWrite) -> Generator[Write, None, None]:
    if loaded.sent is not None and loaded.sent.digest == _digest(issue):
        return
    number = _number(wiring, loaded)
    if number:
        try:
            yield partial(_update, wiring, loaded, number, issue)
            return
        except ForgeRefused as refused:
            if refused.answer not in (404, 410):  # those: somebody deleted it
                raise
    wiring.db.write(lambda s: reports.begin_report(s, loaded.repo_id, ISSUE, loaded.workflow))
    yield partial(_create, wiring, loaded, issue)


def _close(wiring: Wiring, loaded: _Loaded, issue: IssueWrite) -> Generator[Write, None, None]:
    number = _number(wiring, loaded)
    if not number:
        return
    try:
        yield partial(_update, wiring, loaded, number, issue)
    except ForgeRefused as refused:
        if refused.answer not in (404, 410):
            raise


def _number(wiring: Wiring, loaded: _Loaded) -> str:
    """Of our open issue; empty when there is none. One whose making got no answer is found by its marker."""
    if loaded.sent is not None and loaded.was_told == _OPEN and loaded.sent.external_id:
        return loaded.sent.external_id
    return wiring.forge.find_issue(loaded.place, marker(loaded.workflow)) or ""


def _update(wiring: Wiring, loaded: _Loaded, number: str, issue: IssueWrite) -> None:
    wiring.forge.update_issue(loaded.place, number, issue)
    _note(wiring, loaded, number, issue)


def _create(wiring: Wiring, loaded: _Loaded, issue: IssueWrite) -> None:
    _note(wiring, loaded, wiring.forge.create_issue(loaded.place, issue), issue)


def _note(wiring: Wiring, loaded: _Loaded, number: str, issue: IssueWrite) -> None:
    def unit(session: Session) -> None:
        now = wiring.clock.now()
        reports.note_sent(session, loaded.repo_id, ISSUE, loaded.workflow, _digest(issue), now, external_id=number)

    wiring.db.write(unit)


def _digest(issue: IssueWrite) -> str:
    told = hashlib.sha256(f"{issue.title}\n{issue.body}".encode()).hexdigest()[:20]
    return f"{_OPEN if issue.is_open else _CLOSED}:{told}"


def _load(session: Session, mark: OutboxMark) -> _Loaded:
    repo_id, workflow = reports.split_target(mark)
    repo = repo_by_id(session, repo_id)
    ends = ends_on_default_branch(session, repo, workflow, _MOST_ENDS)
    attempt = _telling_attempt(session, ends[0]) if ends and is_failure(ends[0]) else ""
    sent = reports.report_of(session, repo_id, ISSUE, workflow)
    return _Loaded(repo_id, workflow, place_of(repo), repo.default_branch, ends, attempt, sent)


def _telling_attempt(session: Session, run: Run) -> str:
    """The last attempt of the first job that failed, else of the last job."""
    jobs = jobs_of_run(session, run.result_id)
    failed = [job for job in jobs if job.state is JobState.FAILED] or list(jobs[-1:])
    attempts = attempts_of_jobs(session, [job.id or 0 for job in failed[:1]])
    return attempts[-1].id if attempts else ""


def _log(wiring: Wiring, loaded: _Loaded) -> str:
    if not loaded.attempt:
        return ""
    _, tail = wiring.logs.tail(loaded.attempt, _LOG_LINES, 4 * LOG_BYTES)
    return tail.decode(errors="replace")
