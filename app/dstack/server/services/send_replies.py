"""Writes our one reply to a comment with commands, and edits it when what it says has changed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sqlmodel import Session

from dstack.errors import ForgeRefused
from dstack.server.gateways.forge_facts import Place
from dstack.server.models import OutboxMark, Repo
from dstack.server.report.replies import Answer, render_reply, reply_marker
from dstack.server.store.commands import command_of_comment, runs_by_names
from dstack.server.store.outbox import REPLY
from dstack.server.store.reports import note_sent, report_of, split_target
from dstack.server.store.repos import repo_by_id
from dstack.server.wiring import Wiring, place_of

_GONE = 404


@dataclass(frozen=True, slots=True)
class _Reply:
    repo: Repo
    number: int
    comment_id: int
    text: str
    sent: str = ""  # digest of what was sent last
    ours: str = ""  # the forge's id of our comment, once it is known


def send(wiring: Wiring, mark: OutboxMark) -> Iterator[Callable[[], None]]:
    """One whose making was not confirmed is found again by its marker: there are never two."""
    reply = wiring.db.read(lambda s: _render(wiring, s, mark))
    if reply is None or not reply.text:
        return
    digest = hashlib.sha256(reply.text.encode()).hexdigest()
    if digest == reply.sent:
        return
    place, marker = place_of(reply.repo), reply_marker(reply.comment_id)

    def write() -> None:
        ours = reply.ours or wiring.forge.find_comment(place, reply.number, marker) or ""
        if ours:
            _edit(wiring, place, ours, reply.text)
        else:
            ours = wiring.forge.create_comment(place, reply.number, reply.text)
        repo_id, target = split_target(mark)
        now = wiring.clock.now()
        wiring.db.write(lambda s: note_sent(s, repo_id, REPLY, target, digest, now, external_id=ours))

    yield write


def _edit(wiring: Wiring, place: Place, ours: str, text: str) -> None:
    """One that somebody deleted stays away."""
    try:
        wiring.forge.update_comment(place, ours, text)
    except ForgeRefused as error:
        if error.answer != _GONE:
            raise


def _render(wiring: Wiring, session: Session, mark: OutboxMark) -> _Reply | None:
    repo_id, target = split_target(mark)
    command = command_of_comment(session, repo_id, int(target))
    if command is None:
        return None
    answers = [Answer.of_data(data) for data in command.answers]
    runs = runs_by_names(session, [name for answer in answers for name in answer.runs])
    report = report_of(session, repo_id, REPLY, target)
    sent, ours = (report.digest, report.external_id) if report is not None else ("", "")
    text = render_reply(
        command.comment_id,
        answers,
        runs,
        lambda name: f"{wiring.settings.public_url}/runs/{name}",
        is_there=bool(sent),
    )
    return _Reply(repo_by_id(session, repo_id), command.number, command.comment_id, text, sent, ours)
