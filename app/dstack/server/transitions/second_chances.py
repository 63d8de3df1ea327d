"""Lets runs that gave way to another head be made again, once theirs is the present one."""

from __future__ import annotations

from collections.abc import Iterable

from sqlmodel import Session

from dstack.server.decide.superseding import Stand, gave_way_to_another_head
from dstack.server.models import Run
from dstack.server.store.runs import run_by_name, runs_needed_by
from dstack.wire.states import Reason


def let_run_again(session: Session, runs: Iterable[Run]) -> int:
    """Those of `runs`, all at present heads, that gave way to another head or base or to the closing of their pull
    request give up their natural keys, so that they, and what needs them, are made anew. How many did. One that gave
    way to anything else keeps its key: the same news again must not start it over."""
    again = [run for run in runs if run.key is not None and _gave_way_to_another_head(session, run)]
    for run in again:
        run.key = None
        session.add(run)
    return len(again)


def _gave_way_to_another_head(session: Session, run: Run) -> bool:
    if run.reason is not Reason.SUPERSEDED_BY:
        return False
    cause = run_by_name(session, run.message)
    if cause is not None:
        return gave_way_to_another_head(_stand(run), _stand(cause))
    # It was stopped with what it needs, else the cause is a head or a closing in words.
    ended = [other for other in runs_needed_by(session, run.id or 0) if other.reason is Reason.SUPERSEDED_BY]
    return " " in run.message and (not ended or any(_gave_way_to_another_head(session, other) for other in ended))


def _stand(run: Run) -> Stand:
    return Stand(run.sha, run.branch, run.pull_request, run.base_branch)
