"""What a sender of the outbox is, and one under way.

A sender is a generator `send(wiring, mark)`. It renders from the state as it is now and yields one callable per write,
which does the HTTP request and records it (`store.reports`) in one go; nothing to yield means nothing to do. Between
two of them its lane rests, and something more urgent may go first: the generator is then closed, and begun anew later.
A crash may come anywhere, so what is made is looked for before it is made again. A `ForgeRefused` of a write is raised
at its `yield`: a sender may answer with another write (shorter text); one that does not catch it has its mark parked.
A generator may return the time (seconds since the epoch) at which its target is to be looked at again.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass

from dstack.errors import ForgeRefused
from dstack.server.models import OutboxMark
from dstack.server.wiring import Wiring

Write = Callable[[], None]
Sender = Callable[[Wiring, OutboxMark], Iterator[Write]]


@dataclass
class Sending:
    """A generator under way. `pending` is the write it answered a refusal with."""

    mark: OutboxMark
    writes: Iterator[Write]
    pending: Write | None = None
    again_at: float | None = None

    def next(self) -> Write | None:
        """None at its end."""
        if self.pending is not None:
            write, self.pending = self.pending, None
            return write
        try:
            return next(self.writes)
        except StopIteration as end:
            self.again_at = end.value
            return None

    def answer_refusal(self, refused: ForgeRefused) -> bool:
        """True when it goes on with another write. Raises ForgeRefused when it does not know better."""
        if not isinstance(self.writes, Generator):
            raise refused
        try:
            self.pending = self.writes.throw(refused)
        except StopIteration as end:
            self.again_at = end.value
            return False
        return True

    def close(self) -> None:
        if isinstance(self.writes, Generator):
            self.writes.close()

    def is_for(self, mark: OutboxMark) -> bool:
        """Whether its target is this one, and as it was when it began."""
        mine = self.mark
        return (mine.kind, mine.target, mine.version) == (mark.kind, mark.target, mark.version)
