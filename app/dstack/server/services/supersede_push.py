"""Lets a branch's runs keep to its present head: news of a push that come late take nobody's place."""

from __future__ import annotations

from collections.abc import Collection

from sqlmodel import Session

from dstack.server.decide.superseding import the_head
from dstack.server.store.jobs import jobs_of_run
from dstack.server.store.runs import open_pushed_in_turn, runs_of_push
from dstack.server.transitions.jobs import stop_job
from dstack.server.transitions.second_chances import let_run_again
from dstack.wire.states import Reason


def let_pushed_run_again(session: Session, repo_id: int, ref: str, sha: str) -> None:
    """The branch stands at this commit, maybe not for the first time: what gave way to another is made anew."""
    let_run_again(session, runs_of_push(session, repo_id, ref, sha))


def supersede_push(
    session: Session, repo_id: int, ref: str, head: str, left: Collection[str], now: float, *, is_behind: bool = False
) -> None:
    """Of the runs that pushes of the commits `left` made, those that take turns and have not started give way to the
    head of the branch; the others are nobody's business but their own. `is_behind`: the head builds on those commits,
    so that a workflow without a run there is heard of through the earlier one alone, which goes on."""
    if not left:
        return
    at_head = {run.workflow: run.name for run in reversed(runs_of_push(session, repo_id, ref, head))}
    for run in reversed(open_pushed_in_turn(session, repo_id, ref)):  # those that need others first
        goes_on = is_behind and run.workflow not in at_head
        if run.sha in left and run.started_at is None and not goes_on:
            cause = at_head.get(run.workflow, the_head(head))
            for job in jobs_of_run(session, run.id or 0):
                stop_job(session, job, now=now, reason=Reason.SUPERSEDED_BY, message=cause)
