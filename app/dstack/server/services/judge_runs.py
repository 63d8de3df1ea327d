"""Finds what each run is compared with, and judges those that have ended and have a gate.

Git is asked first, then everything else is read, decided and written in one unit a run: a base that ends meanwhile
ends before or after it, and one that ends after it has its runs judged again.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from sqlmodel import Session

from dstack.errors import Unavailable
from dstack.server.bus import RUNS, run_topic
from dstack.server.decide.base import LINE, BaseChoice, Beginning, Candidate, beginning_of, choose_base
from dstack.server.decide.verdict import LETS_PASS, BaseFacts, Surroundings, judge, tags_named
from dstack.server.gateways.history import History
from dstack.server.models import OutboxMark, Run
from dstack.server.store.bases import clean_runs_at
from dstack.server.store.database import wake
from dstack.server.store.github import pull_by_number
from dstack.server.store.outbox import (
    VERDICT,
    clear_mark,
    mark_note_outdated,
    mark_run_outdated,
    marks_due,
    postpone_mark,
)
from dstack.server.store.runs import runs_by_id
from dstack.server.store.tags import tag_by_name
from dstack.server.transitions.tags import move_tag
from dstack.server.wiring import Wiring
from dstack.wire.states import JobState, Verdict

log = logging.getLogger(__name__)
_RETRY_S = 30.0
_AT_ONCE = 32  # runs judged in one commit of the database
_FIRST_LOOK = 64  # commits: the base is nearly always among them


@dataclass(frozen=True, slots=True)
class _Question:
    """A run to judge, and what git must know to answer where the line of its base is."""

    mark: OutboxMark
    run: Run
    beginning: Beginning
    earlier_base: str = ""  # the commit of the base it was given before
    forge_base: str = ""  # where its pull request goes to, as the forge said


def judge_runs(wiring: Wiring, history: History) -> int:
    """Judge every run that was made or has ended since; how many there were. Safe to repeat and to break off."""
    now = wiring.clock.now()
    marks = wiring.db.read(lambda s: marks_due(s, VERDICT, now))
    for start in range(0, len(marks), _AT_ONCE):
        _judge_some(wiring, history, marks[start : start + _AT_ONCE], now)
    return len(marks)


def _judge_some(wiring: Wiring, history: History, marks: Sequence[OutboxMark], now: float) -> None:
    questions = wiring.db.read(lambda s: _questions(s, marks))
    units = []
    for question in questions:
        try:
            line = _line(history, question)
        except Exception as error:  # noqa: BLE001 - whatever git or disk says: shown, and tried again
            units.append((question, partial(_postpone, mark=question.mark, until=now + _RETRY_S, problem=str(error))))
        else:
            units.append(
                (question, partial(_judge, mark=question.mark, line=line, beginning=question.beginning, now=now))
            )
    answers = [(question, wiring.db.submit(unit)) for question, unit in units]
    there = {question.mark.target for question in questions}
    if gone := [mark for mark in marks if mark.target not in there]:
        wiring.db.write(partial(_clear, marks=gone))
    for question, answer in answers:
        try:
            answer.result()
        except Unavailable:
            raise
        except Exception as error:
            log.exception("%s could not be judged", question.run.name, extra={"action": "judge"})
            wiring.db.write(partial(_postpone, mark=question.mark, until=now + _RETRY_S, problem=repr(error)))


def _questions(session: Session, marks: Sequence[OutboxMark]) -> list[_Question]:
    """In the order of the marks; runs that are gone are left out."""
    runs = runs_by_id(session, [int(mark.target.partition(":")[2]) for mark in marks])
    bases = runs_by_id(session, [run.base_run_id for run in runs.values() if run.base_run_id is not None])
    found = []
    for mark in marks:
        run = runs.get(int(mark.target.partition(":")[2]))
        if run is None:
            continue
        base = bases.get(run.base_run_id or 0)
        pull = pull_by_number(session, run.repo_id, run.pull_request) if run.pull_request is not None else None
        found.append(
            _Question(
                mark,
                run,
                beginning_of(run.trigger, run.base_branch),
                base.sha if base is not None else "",
                pull.base_sha if pull is not None else "",
            )
        )
    return found


def _line(history: History, question: _Question) -> Sequence[str]:
    """The commits a base may be of, the nearest first. A base that is waited for holds its place: branches move while
    it trains."""
    run, repo = question.run, str(question.run.repo_id)
    if question.earlier_base and run.verdict is Verdict.PENDING:
        return history.first_parents(repo, question.earlier_base, LINE)
    if question.beginning.is_before:
        return history.first_parents(run.git_id, run.sha, LINE)[1:]
    point = history.meeting_point(repo, question.beginning.branch, run.sha, run.objects)
    if not run.base_branch or point not in (None, run.sha):
        return history.first_parents(repo, point, LINE) if point else ()
    # The pull request has been merged since, or the branch it went to is gone.
    point = history.parting(run.git_id, question.forge_base, run.sha) if question.forge_base else None
    if point in (None, run.sha):
        point = question.earlier_base
    return history.first_parents(repo, point, LINE) if point else history.first_parents(run.git_id, run.sha, LINE)[1:]


def _judge(session: Session, mark: OutboxMark, line: Sequence[str], beginning: Beginning, now: float) -> None:
    """A run that has not ended gets its base alone, to be shown beside it; it is marked anew at its end."""
    run = session.get(Run, int(mark.target.partition(":")[2]))
    clear_mark(session, mark)
    if run is None:
        return
    before = (run.base_run_id, run.verdict)
    choice = _choose(session, run, line, beginning)
    run.base_run_id = choice.base_id
    is_undecided = run.verdict is None or run.verdict is Verdict.PENDING
    if run.gate is not None and run.state is JobState.SUCCEEDED and is_undecided:
        judgement = judge(run.gate, run.metrics, _surroundings(session, run, choice))
        run.verdict, run.verdict_why = judgement.verdict, judgement.why
        if run.verdict in LETS_PASS:
            _tag(session, run, now)
    session.add(run)
    if before != (run.base_run_id, run.verdict) or choice.base_id is not None:
        mark_run_outdated(session, run, now)
        wake(session, run_topic(run.name), RUNS)
    if before[1] != run.verdict:
        mark_note_outdated(session, run, now)


def _choose(session: Session, run: Run, line: Sequence[str], beginning: Beginning) -> BaseChoice:
    """A run without a gate needs its base alone, which is nearly always close by."""
    near, far = line[:_FIRST_LOOK], line[_FIRST_LOOK:]
    candidates: list[Candidate] = []
    choice = BaseChoice()
    own_work = run.result_id if beginning.is_before else None
    for shas in filter(None, (near, far)):
        found = clean_runs_at(session, run, shas)
        candidates += [Candidate(c.id, c.sha, c.state, c.result_id) for c in found]
        choice = choose_base(line, candidates, own_work)
        if choice.base_id is not None and run.gate is None:
            break
    return choice


def _surroundings(session: Session, run: Run, choice: BaseChoice) -> Surroundings:
    runs = runs_by_id(session, [*filter(None, [choice.base_id]), *choice.history])
    base = runs.get(choice.base_id or 0)
    tags = {}
    for name in tags_named(run.gate):
        tag = tag_by_name(session, run.repo_id, run.workflow, name)
        tagged = session.get(Run, tag.run_id) if tag is not None else None
        if tagged is not None:
            tags[name] = tagged.metrics
    facts = BaseFacts(base.name, None if choice.is_open else base.metrics) if base is not None else None
    return Surroundings(facts, [runs[run_id].metrics for run_id in choice.history], tags)


def _tag(session: Session, run: Run, now: float) -> None:
    """The automatic tag, unless a newer run has it already: this one may have waited long for its base."""
    if not run.auto_tag:
        return
    tag = tag_by_name(session, run.repo_id, run.workflow, run.auto_tag)
    if tag is None or tag.run_id <= (run.id or 0):
        move_tag(session, run, run.auto_tag, by="dstack", now=now)


def _clear(session: Session, marks: Sequence[OutboxMark]) -> None:
    for mark in marks:
        clear_mark(session, mark)


def _postpone(session: Session, mark: OutboxMark, until: float, problem: str) -> None:
    postpone_mark(session, mark, until, problem[:500])
