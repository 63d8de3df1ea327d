"""Keeps the one comment of a pull request as its runs are: made once, found again by its marker, edited ever after."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Final

from sqlmodel import Session

from dstack.errors import ForgeRefused
from dstack.server.decide.pacing import is_progress_due, next_progress
from dstack.server.gateways.forge_facts import Place
from dstack.server.models import ForgeReport, OutboxMark, PullRequest, Run
from dstack.server.report.comment import MARKER, PullPicture, outline, render_comment
from dstack.server.report.picture import Beside, newest_at, picture_of
from dstack.server.report.status import is_about_to_be_judged
from dstack.server.store import reports
from dstack.server.store.github import pull_by_number
from dstack.server.store.outbox import COMMENT
from dstack.server.store.pulls import metric_of_run, not_needed_at, runs_of_pull, waits_of_runs
from dstack.server.store.repos import repo_by_id
from dstack.server.store.runs import needs_of_runs, runs_by_id
from dstack.server.wiring import Wiring, place_of

Write = Callable[[], None]
REMOVED: Final = "removed"  # instead of the comment's id: people deleted it twice, and want none
_SOON_S: Final = 2.0
_MUCH_SHORTER: Final = 20_000  # bytes, after a refusal for being too long


@dataclass(frozen=True, slots=True)
class _Loaded:
    """The comment as it should be, and as it was sent last. `began` is when the oldest run that goes on did;
    `is_early`: a verdict is due any moment."""

    repo_id: int
    number: int
    place: Place
    picture: PullPicture
    is_open: bool
    sent: ForgeReport | None
    began: float | None
    is_early: bool


def send(wiring: Wiring, mark: OutboxMark) -> Generator[Write, None, float | None]:
    """See `outbox_sending`. A change of state is told at once, progress by the schedule of `decide.pacing`; answers
    when to look again."""
    now = wiring.clock.now()
    loaded = wiring.db.read(lambda session: _load(session, mark, wiring.settings.public_url, now))
    if loaded is None:
        return None
    if loaded.is_early:
        return now + _SOON_S
    body = render_comment(loaded.picture)
    digest = f"{_digest(outline(loaded.picture))}:{_digest(body)}"
    again_at = None if loaded.began is None else loaded.began + next_progress(max(0.0, now - loaded.began))
    if not _is_worth_telling(loaded, digest, now):
        return again_at
    known = loaded.sent.external_id if loaded.sent else ""
    known = known or wiring.forge.find_comment(loaded.place, loaded.number, MARKER) or ""
    if not known and not loaded.is_open:
        return None
    try:
        yield from _write_it(wiring, loaded, known, body, digest)
    except ForgeRefused as refused:
        if refused.answer != 422:
            raise
        yield from _write_it(wiring, loaded, known, render_comment(loaded.picture, _MUCH_SHORTER), digest)
    return again_at


def _write_it(wiring: Wiring, loaded: _Loaded, known: str, body: str, digest: str) -> Generator[Write, None, None]:
    """Edit the comment, or make it. One that somebody deleted is made anew, once; deleted again, it is not wanted."""
    if not known:
        yield lambda: _create(wiring, loaded, body, digest)
        return
    try:
        yield lambda: _edit(wiring, loaded, known, body, digest)
        return
    except ForgeRefused as refused:
        if refused.answer not in (404, 410):
            raise
    other = wiring.forge.find_comment(loaded.place, loaded.number, MARKER)
    if other is not None and other != known:
        yield lambda: _edit(wiring, loaded, other, body, digest)
    elif wiring.db.read(lambda s: reports.report_of(s, loaded.repo_id, COMMENT, _anew(loaded))) is not None:
        _note(wiring, loaded, digest, REMOVED)
    elif loaded.is_open:
        yield lambda: _create(wiring, loaded, body, digest, anew=True)


def _anew(loaded: _Loaded) -> str:
    return f"{loaded.number}:anew"


def _create(wiring: Wiring, loaded: _Loaded, body: str, digest: str, *, anew: bool = False) -> None:
    made = wiring.forge.create_comment(loaded.place, loaded.number, body)
    _note(wiring, loaded, digest, made)
    if anew:
        wiring.db.write(lambda s: reports.begin_report(s, loaded.repo_id, COMMENT, _anew(loaded)))


def _edit(wiring: Wiring, loaded: _Loaded, known: str, body: str, digest: str) -> None:
    wiring.forge.update_comment(loaded.place, known, body)
    _note(wiring, loaded, digest, known)


def _note(wiring: Wiring, loaded: _Loaded, digest: str, comment_id: str) -> None:
    now = wiring.clock.now()
    target = str(loaded.number)
    wiring.db.write(
        lambda s: reports.note_sent(s, loaded.repo_id, COMMENT, target, digest, now, external_id=comment_id)
    )


def _is_worth_telling(loaded: _Loaded, digest: str, now: float) -> bool:
    sent = loaded.sent
    if sent is None or not sent.digest:
        return loaded.is_open and bool(loaded.picture.lines or loaded.picture.notes)
    if sent.external_id == REMOVED or sent.digest == digest:
        return False
    if sent.digest.partition(":")[0] != digest.partition(":")[0]:
        return True
    return loaded.is_open and (loaded.began is None or is_progress_due(loaded.began, sent.sent_at, now))


def _load(session: Session, mark: OutboxMark, url: str, now: float) -> _Loaded | None:
    repo_id, number = reports.split_target(mark)
    pull = pull_by_number(session, repo_id, int(number))
    if pull is None:
        return None
    repo = repo_by_id(session, repo_id)
    runs = runs_of_pull(session, pull)
    head, _ = newest_at(runs, pull)
    going = [run.started_at or run.created_at for run in head if not (run.state.is_final or run.is_held)]
    problems = [row for row in not_needed_at(session, repo_id, pull.head_sha) if row.is_problem and row.why]
    picture = picture_of(pull, runs, _facts(session, pull, runs), problems, repo.full_name, url)
    sent = reports.report_of(session, repo_id, COMMENT, number)
    return _Loaded(
        repo_id,
        int(number),
        place_of(repo),
        picture,
        pull.is_open,
        sent,
        began=min(going) if going and pull.is_open else None,
        is_early=any(is_about_to_be_judged(run, now) for run in head),
    )


def _facts(session: Session, pull: PullRequest, runs: Sequence[Run]) -> Beside:
    head, _ = newest_at(runs, pull)
    others = runs_by_id(session, [i for run in runs for i in (run.base_run_id, run.adopted_id) if i is not None])
    edges = needs_of_runs(session, [run.id or 0 for run in head])
    needed = runs_by_id(session, [need for needs in edges.values() for need in needs])
    points = {}
    for run in head:
        if run.headline:
            points[run.id or 0] = metric_of_run(session, run.result_id, run.headline)
            if run.base_run_id is not None:
                base = others.get(run.base_run_id)
                points[run.base_run_id] = metric_of_run(
                    session, base.result_id if base else run.base_run_id, run.headline
                )
    return Beside(
        others=others,
        needs={run_id: [needed[need].workflow for need in needs] for run_id, needs in edges.items()},
        waits=waits_of_runs(session, [run.id or 0 for run in head]),
        points=points,
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:20]
