"""Somebody commented: the commands in it are done when they may give them, at the head they were given at.

In this order: is it for us, may they, the first reaction, which commit, each command with its answer, the last
reaction and the reply. Handled again, it goes on with the first command that has no answer yet.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from sqlmodel import Session

from dstack.errors import DstackError, ForgeBusy, ForgeDown, ForgeRefused, GitFailed, Unavailable
from dstack.server.decide.as_said import Heard, is_base_as_said, is_head_as_said
from dstack.server.decide.command_lines import MAIN_WORD, Line, find_lines, of_known_words
from dstack.server.decide.commands import MAX_COMMANDS, READERS_VERBS, read_line, verb_of
from dstack.server.decide.head_time import head_since
from dstack.server.forge_events import IssueComment
from dstack.server.gateways.forge_facts import Permission, PullFacts
from dstack.server.handlers.comment_scene import Scene
from dstack.server.handlers.comment_verbs import do
from dstack.server.handlers.comment_words import known_words
from dstack.server.handlers.registry import handles_event
from dstack.server.models import Command, Delivery, PullRequest, Repo
from dstack.server.models.delivery import DeliveryState
from dstack.server.report.replies import (
    NOT_ALLOWED,
    UNDER_WAY,
    Answer,
    given_up,
    not_allowed,
    reaction_of,
    refused,
    too_many,
)
from dstack.server.services.record_command import finish_command, record_answer, take_command
from dstack.server.services.record_pull import record_pull
from dstack.server.services.settle_delivery import MAX_TRIES, settle_delivery
from dstack.server.store.commands import command_of_comment, count_commands
from dstack.server.store.github import pull_by_number
from dstack.server.wiring import Wiring, place_of

log = logging.getLogger(__name__)

MOST_AN_HOUR = 30  # comments of one who may not write that are answered
_NOT_OURS = (Unavailable, ForgeBusy, ForgeDown)  # the delivery waits and is handled again
_ONLY_ON_PULLS = Answer("", False, "Commands are done on open pull requests only.")


@handles_event(IssueComment)
def handle_comment(wiring: Wiring, delivery: Delivery, repo: Repo, event: IssueComment) -> None:
    """Raises ForgeDown and ForgeBusy: whoever is not known to be allowed is not."""
    lines = find_lines(event.body)
    why = _why_ignored(event) or _why_not_again(wiring, repo, event)
    if not why and not (lines := of_known_words(lines, known_words(wiring, repo, event, lines))):
        why = "it holds no command"
    if why:
        _settle(wiring, delivery, DeliveryState.IGNORED, why)
        return
    permission = _permission(wiring, repo, event.author)
    if not permission.may_write and _asks_too_often(wiring, repo, event):
        _settle(wiring, delivery, DeliveryState.IGNORED, f"{event.author} asked {MOST_AN_HOUR} times within an hour")
    elif any(_may(permission, line) for line in lines[:MAX_COMMANDS]):
        _obey_or_say(wiring, delivery, repo, event, lines, permission)
    else:
        _take(wiring, repo, event, NOT_ALLOWED)
        _settle(wiring, delivery, DeliveryState.IGNORED, f"{event.author} may not do this")


def _obey_or_say(
    wiring: Wiring,
    delivery: Delivery,
    repo: Repo,
    event: IssueComment,
    lines: Sequence[Line],
    permission: Permission,
) -> None:
    """What is tried for the last time is answered before the delivery is given up: nobody is shown eyes for ever."""
    try:
        _obey(wiring, delivery, repo, event, lines, permission)
    except _NOT_OURS:
        raise
    except Exception as error:
        if delivery.tries + 1 >= MAX_TRIES:
            _say_given_up(wiring, _take(wiring, repo, event, UNDER_WAY), given_up(error))
        raise


def _say_given_up(wiring: Wiring, command: Command, answer: Answer) -> None:
    def unit(session: Session) -> None:
        record_answer(session, command.id or 0, answer.as_data())
        finish_command(session, command.id or 0, reaction_of([answer]), wiring.clock.now())

    wiring.db.write(unit)


def _obey(
    wiring: Wiring,
    delivery: Delivery,
    repo: Repo,
    event: IssueComment,
    lines: Sequence[Line],
    permission: Permission,
) -> None:
    command = _take(wiring, repo, event, UNDER_WAY)
    scene = _set_scene(wiring, delivery, repo, event)
    if scene is not None:
        _do_all(scene, command, lines, permission)
    elif not command.answers:
        wiring.db.write(lambda s: record_answer(s, command.id or 0, _ONLY_ON_PULLS.as_data()))
    _finish(wiring, delivery, command)


def _why_ignored(event: IssueComment) -> str:
    if event.origin.action != "created":
        return "only new comments count: an edited one may have been changed by somebody else"
    if not event.author:
        return "its author is gone"
    if event.author_is_bot or event.origin.is_bot or event.author.endswith("[bot]"):
        return "programs give no commands"
    return ""


def _why_not_again(wiring: Wiring, repo: Repo, event: IssueComment) -> str:
    command = wiring.db.read(lambda s: command_of_comment(s, repo.id or 0, event.comment_id))
    return "this comment has been answered" if command is not None and command.reaction != UNDER_WAY else ""


def _permission(wiring: Wiring, repo: Repo, author: str) -> Permission:
    """What the forge says now. Never what the comment says of its author."""
    try:
        return wiring.forge.permission(place_of(repo), author)
    except ForgeRefused:
        return Permission.NONE


def _asks_too_often(wiring: Wiring, repo: Repo, event: IssueComment) -> bool:
    """Anybody may read a public repository, and ask; each answer takes the place of a status in what the forge lets us
    write in an hour."""
    since = wiring.clock.now() - 3600
    repo_id, author, this = repo.id or 0, event.author, event.comment_id
    return wiring.db.read(lambda s: count_commands(s, repo_id, author, since, but=this)) >= MOST_AN_HOUR


def _may(permission: Permission, line: Line) -> bool:
    return permission.may_read if verb_of(line) in READERS_VERBS else permission.may_write


def _take(wiring: Wiring, repo: Repo, event: IssueComment, reaction: str) -> Command:
    now = wiring.clock.now()
    return wiring.db.write(
        lambda s: take_command(
            s, repo.id or 0, event.number, event.comment_id, author=event.author, reaction=reaction, now=now
        )
    )


def _set_scene(wiring: Wiring, delivery: Delivery, repo: Repo, event: IssueComment) -> Scene | None:
    """None where no open pull request is."""
    if not event.is_pull:
        return None
    repo_id = repo.id or 0
    # What was heard of before: this delivery comes after those of earlier events, and the forge's answer after all.
    known = wiring.db.read(lambda s: pull_by_number(s, repo_id, event.number))
    facts = wiring.forge.pull(place_of(repo), event.number)
    if not facts.is_open:
        return None
    pull = wiring.db.write(lambda s: record_pull(s, repo_id, facts, wiring.clock.now()))
    heard = _heard(known, facts)
    return Scene(
        wiring=wiring,
        delivery=delivery,
        repo=repo,
        pull=pull,
        author=event.author,
        comment_id=event.comment_id,
        is_head_as_said=pull.head_sha == facts.head_sha and is_head_as_said(heard, facts.head_sha, event.created_at),
        is_base_as_said=pull.base_branch == facts.base_branch
        and is_base_as_said(heard, facts.base_branch, event.created_at),
    )


def _heard(known: PullRequest | None, facts: PullFacts) -> Heard:
    """One never heard of has not changed since the comment where the forge says that nothing in it has."""
    if known is None:
        return Heard(facts.head_sha, head_since(facts, 0), facts.base_branch)
    return Heard(known.head_sha, known.head_at, known.base_branch, known.head_moved, known.base_at)


def _do_all(scene: Scene, command: Command, lines: Sequence[Line], permission: Permission) -> None:
    """Those that have no answer yet."""
    first = len(command.answers)
    for index, line in enumerate(lines[:MAX_COMMANDS]):
        if index >= first:
            _do(scene, command, line, index, _may(permission, line))
    if len(lines) > MAX_COMMANDS >= first:
        answer = too_many(MAX_COMMANDS, len(lines) - MAX_COMMANDS)
        scene.wiring.db.write(lambda s: record_answer(s, command.id or 0, answer.as_data()))


def _do(scene: Scene, command: Command, line: Line, index: int, is_allowed: bool) -> None:
    def record(session: Session, answer: Answer) -> None:
        record_answer(session, command.id or 0, answer.as_data())

    key = f"comment:{scene.repo_id}:{scene.comment_id}:{index}"
    try:
        if is_allowed:
            words = scene.words() if line.word != MAIN_WORD else {}
            do(scene, read_line(line, words), line.text, key, record)
        else:
            scene.wiring.db.write(lambda s: record(s, not_allowed(line.text)))
    except _NOT_OURS:
        raise
    except DstackError as error:
        if isinstance(error, GitFailed):
            log.warning("comment %d: %s", scene.comment_id, error.message, extra={"action": "command"})
        answer = refused(line.text, error)
        scene.wiring.db.write(lambda s: record(s, answer))


def _finish(wiring: Wiring, delivery: Delivery, command: Command) -> None:
    """The reaction follows from the answers as they are kept."""
    now = wiring.clock.now()

    def unit(session: Session) -> None:
        kept = session.get(Command, command.id)
        assert kept is not None
        answers = [Answer.of_data(data) for data in kept.answers]
        finish_command(session, kept.id or 0, reaction_of(answers), now)
        reason = "\n".join(f"{a.line}: {'done' if a.is_done else 'refused'}" for a in answers)
        settle_delivery(session, delivery.id or 0, DeliveryState.PROCESSED, reason, now)

    wiring.db.write(unit)


def _settle(wiring: Wiring, delivery: Delivery, state: DeliveryState, reason: str) -> None:
    now = wiring.clock.now()
    wiring.db.write(lambda s: settle_delivery(s, delivery.id or 0, state, reason, now))
