"""Moves a tag, keeps its history, and files the delivery that lets workflows start on the move."""

from __future__ import annotations

from sqlmodel import Session

from dstack.errors import Invalid
from dstack.server.models import Run, Tag, TagMove
from dstack.server.store.outbox import mark_note_outdated, mark_run_outdated
from dstack.server.store.tags import tag_by_name
from dstack.server.transitions.deliveries import receive_delivery
from dstack.wire.states import JobState

_ALLOWED = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


def move_tag(session: Session, run: Run, name: str, *, by: str, now: float) -> Tag:
    """Let `WORKFLOW:name` of the run's repo stand on `run`. Raises Invalid for a run that has not succeeded, and for an
    untrusted one: others take what a tag names without looking at it."""
    check_tag_name(name)
    if run.adopted_id is not None:  # the artifacts are those of the run that did the work
        run = session.get(Run, run.adopted_id) or run
    _check_can_carry(run)
    tag = tag_by_name(session, run.repo_id, run.workflow, name)
    if tag is not None and tag.run_id == run.id:
        return tag
    if tag is None:
        tag = Tag(repo_id=run.repo_id, workflow=run.workflow, name=name, run_id=run.id or 0, moved_at=now, moved_by=by)
    elif (left := session.get(Run, tag.run_id)) is not None:
        mark_note_outdated(session, left, now)
        mark_run_outdated(session, left, now)
    mark_note_outdated(session, run, now)
    mark_run_outdated(session, run, now)
    tag.run_id, tag.moved_at, tag.moved_by = run.id or 0, now, by
    move = TagMove(repo_id=run.repo_id, workflow=run.workflow, name=name, run_id=run.id, moved_at=now, moved_by=by)
    session.add_all([tag, move])
    session.flush()
    body = {"tag": tag.label, "run": run.name, "sha": run.sha, "branch": run.branch}
    receive_delivery(session, "tag-moved", f"tag-moved:{move.id}", body, repo_id=run.repo_id, sender=by, now=now)
    return tag


def _check_can_carry(run: Run) -> None:
    if not run.trusted:
        raise Invalid(
            f"{run.name} ran the code of a fork; its artifacts cannot carry a tag",
            "Merge the pull request, and tag a run of the merged commit.",
        )
    if run.state is not JobState.SUCCEEDED:
        raise Invalid(
            f"{run.name} is {run.state.value}; only a succeeded run can carry a tag",
            f"See `dstack runs --workflow {run.workflow}` for one that succeeded.",
        )


def check_tag_name(name: str) -> None:
    """1 to 100 letters, digits, `.`, `_`, `-`, starting with a letter or digit. Raises Invalid."""
    if not name or len(name) > 100 or not set(name) <= _ALLOWED or not name[0].isalnum():
        raise Invalid(f"{name!r} is not a tag name", "Use letters, digits, '.', '_' and '-', such as `latest`.")
