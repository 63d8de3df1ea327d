"""Keeps the check run of a run on the forge: made once, then updated, its remarks added once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator
from dataclasses import replace
from functools import partial

from sqlmodel import Session

from dstack.errors import ForgeRefused
from dstack.server.decide.pacing import CHECK_STEPS, KEEP_ALIVE_S, is_progress_due, next_progress
from dstack.server.gateways.forge_facts import Place
from dstack.server.gateways.forge_writes import CheckWrite
from dstack.server.models import ForgeReport, NotNeeded, OutboxMark, Repo, Run
from dstack.server.models.run_facts import RunFacts
from dstack.server.report.check import CheckDetail, check_of_commit, check_of_problems, check_of_run
from dstack.server.store.outbox import CHECK
from dstack.server.store.pulls import is_spoken_over, metric_of_run
from dstack.server.store.reports import begin_report, note_intent, note_sent, report_of, split_target
from dstack.server.store.repos import repo_by_id
from dstack.server.store.run_facts import facts_of_commit, facts_of_runs, newest_metrics, problem_of_commit
from dstack.server.wiring import Wiring, place_of

Writes = Generator[Callable[[], None], None, float | None]
CONFIG = "config:"  # begins the target of a commit whose files cannot be read
_TAIL_LINES = 300
_SHORT = 8000  # characters of summary and text to fall back to
_UNSURE = "unsure"  # instead of a digest: remarks were on their way


def send(wiring: Wiring, mark: OutboxMark) -> Writes:
    """The target is `REPO-ID:RUN-ID`, or `REPO-ID:config:SHA`."""
    repo_id, target = split_target(mark)
    if wiring.settings.github_checks == "off":
        return None
    repo = wiring.db.read(lambda s: repo_by_id(s, repo_id))
    if target.startswith(CONFIG):
        return (yield from _send_problems(wiring, repo, target))
    run = wiring.db.read(lambda s: s.get(Run, int(target)))
    if run is None:
        return None
    if wiring.settings.github_checks == "push":
        return (yield from _send_commit(wiring, repo, run.sha))
    return (yield from _send_run(wiring, repo, run))


def _send_run(wiring: Wiring, repo: Repo, run: Run) -> Writes:
    facts, over = wiring.db.read(lambda s: (facts_of_runs(s, [run])[0], is_spoken_over(s, run)))
    check = check_of_run(facts, _detail(wiring, facts), wiring.settings.public_url, is_spoken_over=over)
    return (yield from _keep(wiring, repo, str(run.id), check, run.started_at or run.created_at))


def _send_commit(wiring: Wiring, repo: Repo, sha: str) -> Writes:
    """One for all workflows of the commit."""
    commit = wiring.db.read(lambda s: facts_of_commit(s, repo.id or 0, sha))
    details = {facts.run.name: _detail(wiring, facts) for facts in commit.runs}
    check = check_of_commit(commit, details, wiring.settings.public_url, wiring.clock.now())
    began = min((facts.run.created_at for facts in commit.runs), default=wiring.clock.now())
    return (yield from _keep(wiring, repo, f"commit:{sha}", check, began))


def _send_problems(wiring: Wiring, repo: Repo, target: str) -> Writes:
    sha = target.removeprefix(CONFIG)
    problem: NotNeeded | None = wiring.db.read(lambda s: problem_of_commit(s, repo.id or 0, sha))
    if problem is None:
        return None
    check = check_of_problems(sha, problem.why, wiring.settings.public_url)
    return (yield from _keep(wiring, repo, target, check, problem.created_at))


def _detail(wiring: Wiring, facts: RunFacts) -> CheckDetail:
    run = facts.run
    tail = wiring.logs.tail(facts.telling, _TAIL_LINES)[1] if facts.telling else b""

    def query(session: Session) -> CheckDetail:
        headline, base = run.headline or "", facts.base
        return CheckDetail(
            log=tail.decode("utf-8", "replace"),
            metrics=run.metrics or newest_metrics(session, facts.attempts),
            points=metric_of_run(session, run.result_id, headline),
            base_points=metric_of_run(session, base.result_id, headline) if base is not None else (),
        )

    return wiring.db.read(query)


def _keep(wiring: Wiring, repo: Repo, target: str, check: CheckWrite, began: float) -> Writes:
    """Make the forge's check this one. `began` is where the schedule of progress counts from."""
    now, repo_id = wiring.clock.now(), repo.id or 0
    again_at = None if check.conclusion else began + next_progress(max(0.0, now - began), CHECK_STEPS)
    known = wiring.db.read(lambda s: report_of(s, repo_id, CHECK, target))
    if known is not None and not _is_worth_writing(known, check, began, now):
        return again_at
    place = place_of(repo)
    try:
        yield partial(_write, wiring, place, repo_id, target, check, _digest(check))
    except ForgeRefused as refused:
        if refused.answer != 422:
            raise
        short = replace(check, summary=check.summary[:_SHORT], text="", annotations=())
        yield partial(_write, wiring, place, repo_id, target, short, _digest(check))
    return again_at


def _digest(check: CheckWrite) -> str:
    """`STATE:ALL:REMARKS`: what is told at once, all that is shown, and how many remarks stand there."""
    state = replace(check, summary="", text="", annotations=())
    parts = (hashlib.sha256(repr(part).encode()).hexdigest()[:20] for part in (state, check))
    return ":".join([*parts, str(len(check.annotations))])


def _is_worth_writing(known: ForgeReport, check: CheckWrite, began: float, now: float) -> bool:
    """A state is told at once, and everything of an end; progress by its schedule, and a sign of life before the forge
    takes the check for dead."""
    digest = _digest(check)
    if known.digest.partition(":")[0] != digest.partition(":")[0]:
        return True
    if check.conclusion:
        return known.digest != digest
    if known.sent_at is not None and now - known.sent_at >= KEEP_ALIVE_S:
        return True
    return known.digest != digest and is_progress_due(began, known.sent_at, now, CHECK_STEPS)


def _write(wiring: Wiring, place: Place, repo_id: int, target: str, check: CheckWrite, digest: str) -> None:
    """One whose making was not confirmed is looked for before another is made, and so are remarks."""
    is_new = wiring.db.write(lambda s: begin_report(s, repo_id, CHECK, target))
    known = wiring.db.read(lambda s: report_of(s, repo_id, CHECK, target))
    check_id = known.external_id if known is not None else ""
    is_unsure = known is not None and known.digest == _UNSURE
    if not check_id and not is_new:
        check_id = wiring.forge.find_check(place, check.sha, check.external_id) or ""
        is_unsure = True
    if not check_id:
        check_id = wiring.forge.create_check(place, check)
    else:
        there = _remarks_there(wiring, place, check_id, known, is_unsure=is_unsure) if check.annotations else 0
        new = check.annotations[there:]
        if new:
            wiring.db.write(lambda s: note_intent(s, repo_id, CHECK, target, _UNSURE, check_id))
        wiring.forge.update_check(place, check_id, check, new)
    now = wiring.clock.now()
    wiring.db.write(lambda s: note_sent(s, repo_id, CHECK, target, digest, now, external_id=check_id))


def _remarks_there(wiring: Wiring, place: Place, check_id: str, known: ForgeReport | None, *, is_unsure: bool) -> int:
    if is_unsure:
        return wiring.forge.count_annotations(place, check_id)
    return int(known.digest.rpartition(":")[2] or 0) if known is not None else 0
