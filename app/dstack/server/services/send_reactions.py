"""Shows on a comment how far its commands are."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sqlmodel import Session

from dstack.errors import ForgeRefused
from dstack.server.models import Command, OutboxMark, Repo
from dstack.server.store.commands import command_of_comment
from dstack.server.store.outbox import REACTION
from dstack.server.store.reports import note_sent, report_of, split_target
from dstack.server.store.repos import repo_by_id
from dstack.server.wiring import Wiring, place_of

_GONE = 404


def send(wiring: Wiring, mark: OutboxMark) -> Iterator[Callable[[], None]]:
    """The reaction of the moment, unless it was shown before: doing it twice is doing it once."""
    repo_id, target = split_target(mark)

    def look(session: Session) -> tuple[Repo, Command | None, str]:
        report = report_of(session, repo_id, REACTION, target)
        command = command_of_comment(session, repo_id, int(target))
        return repo_by_id(session, repo_id), command, report.digest if report is not None else ""

    repo, command, shown = wiring.db.read(look)
    if command is None or command.reaction == shown:
        return
    reaction, comment_id = command.reaction, command.comment_id

    def write() -> None:
        try:
            wiring.forge.react(place_of(repo), comment_id, reaction)
        except ForgeRefused as error:
            if error.answer != _GONE:
                raise
            # Somebody deleted the comment: there is nothing left to show it on, and nothing to mend.
        now = wiring.clock.now()
        wiring.db.write(lambda s: note_sent(s, repo_id, REACTION, target, reaction, now))

    yield write
