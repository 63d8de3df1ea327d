"""What a push asks for: ref updates as git hands them to its hooks, and which of them nobody may make."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from dstack.errors import Invalid, Malformed
from dstack.git.names import check_ref, check_sha, is_zero

RUN_REFS = "refs/dstack/runs/"  # the server's own: keeps a run's commit as long as the run
WORK_REFS = "refs/dstack/work/"  # working trees shipped by `dstack run`
NOTES_REF = "refs/notes/dstack"
MAX_UPDATES = 1000

_OPEN = ("refs/heads/", "refs/tags/", WORK_REFS, "refs/notes/")


@dataclass(frozen=True, slots=True)
class RefUpdate:
    """`ref` moves from `old` to `new`; all zeros stand for "does not exist"."""

    old: str
    new: str
    ref: str

    @property
    def is_create(self) -> bool:
        return is_zero(self.old)

    @property
    def is_delete(self) -> bool:
        return is_zero(self.new)

    @property
    def branch(self) -> str | None:
        """The branch's short name; None for tags and all other refs."""
        return self.ref.removeprefix("refs/heads/") if self.ref.startswith("refs/heads/") else None

    @property
    def tag(self) -> str | None:
        """The Git tag's short name; None for all other refs."""
        return self.ref.removeprefix("refs/tags/") if self.ref.startswith("refs/tags/") else None


def read_updates(lines: Iterable[bytes]) -> tuple[RefUpdate, ...]:
    """Lines `OLD NEW REF` as a hook's standard input has them. Raises Malformed."""
    updates = []
    for line in lines:
        parts = line.rstrip(b"\n").split(b" ", 2)
        try:
            old, new, ref = (part.decode() for part in parts)
            updates.append(RefUpdate(check_sha(old), check_sha(new), ref))
        except (ValueError, Invalid):
            raise Malformed(f"not a ref update: {line[:200]!r}") from None
    return tuple(updates)


def refusals(
    updates: Iterable[RefUpdate], may_push: Callable[[str], bool], why: str = "you may not push this ref"
) -> tuple[str, ...]:
    """Why this push is refused as a whole, a line a ref; empty when it may pass. `may_push` is the pusher's own right
    to a ref whose name is in order, `why` what is said where that lacks."""
    updates = tuple(updates)
    if len(updates) > MAX_UPDATES:
        return (f"this push moves {len(updates)} refs; {MAX_UPDATES} at a time is the limit",)
    reasons = ((update.ref, _refusal(update.ref, may_push, why)) for update in updates)
    return tuple(f"{ref}: {reason}" for ref, reason in reasons if reason)


def _refusal(ref: str, may_push: Callable[[str], bool], why: str) -> str:
    if ref == NOTES_REF or ref.startswith(NOTES_REF + "/"):
        return "the results of runs are written by the server alone"
    if not ref.startswith(_OPEN):
        return "only branches (refs/heads/) and tags (refs/tags/) can be pushed here"
    try:
        check_ref(ref)
    except Invalid as error:
        return error.message
    return "" if may_push(ref) else why
