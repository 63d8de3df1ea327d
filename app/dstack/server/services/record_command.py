"""Keeps what came of the commands in a comment, and says that the forge is to be told."""

from __future__ import annotations

from typing import Any

from sqlmodel import Session

from dstack.server.models import Command
from dstack.server.store.commands import command_of_comment
from dstack.server.store.outbox import REACTION, REPLY, mark_outdated


def take_command(
    session: Session, repo_id: int, number: int, comment_id: int, *, author: str, reaction: str, now: float
) -> Command:
    """The comment's row; a new one shows `reaction` on the comment at once."""
    known = command_of_comment(session, repo_id, comment_id)
    if known is not None:
        return known
    command = Command(
        repo_id=repo_id, number=number, comment_id=comment_id, author=author, reaction=reaction, created_at=now
    )
    session.add(command)
    session.flush()
    mark_outdated(session, REACTION, f"{repo_id}:{comment_id}", now)
    return command


def record_answer(session: Session, command_id: int, answer: dict[str, Any]) -> None:
    """In the unit that does what the command asks: it is never done without its answer, nor twice."""
    command = _command(session, command_id)
    command.answers = [*command.answers, answer]
    session.add(command)
    session.flush()


def finish_command(session: Session, command_id: int, reaction: str, now: float) -> None:
    """All of the comment's commands have their answer."""
    command = _command(session, command_id)
    command.reaction = reaction
    session.add(command)
    target = f"{command.repo_id}:{command.comment_id}"
    mark_outdated(session, REACTION, target, now)
    mark_outdated(session, REPLY, target, now)


def _command(session: Session, command_id: int) -> Command:
    command = session.get(Command, command_id)
    assert command is not None, f"command {command_id} is referred to and must exist"
    return command
