"""Small decisions of the pages, pure: what an address asks for, how runs are grouped, whose log is shown first."""

from __future__ import annotations

from itertools import groupby
from typing import Final
from urllib.parse import urlencode

from starlette.requests import Request

from dstack.errors import Malformed, NotFound
from dstack.server.web.render.models import AttemptData, RunData, RunFilter, RunRow
from dstack.wire.states import JobState, Trigger

STATES: Final = ("", "active", *(state.value for state in JobState))
TRIGGERS: Final = tuple(trigger.value for trigger in Trigger)
_FILTERS: Final = ("repo", "workflow", "branch", "state", "trigger", "pr", "sha")


def read_filter(request: Request) -> RunFilter:
    """What the address narrows the list to. Raises Malformed for a state, trigger or pull request there cannot be."""
    values = {name: request.query_params.get(name, "")[:300] for name in (*_FILTERS, "cursor")}
    if values["state"] not in STATES:
        raise Malformed("There is no such state.", "Known: " + ", ".join(filter(None, STATES)) + ".")
    if values["trigger"] not in ("", *TRIGGERS):
        raise Malformed("There is no such trigger.", "Known: " + ", ".join(TRIGGERS) + ".")
    if values["pr"] and not _is_number(values["pr"]):
        raise Malformed("There is no such pull request.", "`pr` is its number.")
    return RunFilter(**values)


def filter_query(wanted: RunFilter, *, cursor: str | None = None, **changed: str) -> str:
    """The address of the run list with some filters changed; the cursor belongs to one set of filters only."""
    values = {name: changed.get(name, getattr(wanted, name)) for name in _FILTERS} | {"cursor": cursor or ""}
    query = urlencode({name: value for name, value in values.items() if value})
    return f"/?{query}" if query else "/"


def in_groups(rows: list[RunRow]) -> list[list[RunRow]]:
    """The rows cut where the group changes; within a group the run that others need comes first."""
    return [in_order(list(rows)) for _, rows in groupby(rows, key=lambda row: row.run.group)]


def in_order(rows: list[RunRow]) -> list[RunRow]:
    """Runs after those they need; a loop (there is none) would end in the order given."""
    names = {row.run.name for row in rows}
    ordered: list[RunRow] = []
    left = rows[::-1]  # given newest first; runs of a group are often made at one instant
    left.sort(key=lambda row: row.run.created_at)
    while left:
        placed = {row.run.name for row in ordered}
        ready = [row for row in left if all(need in placed for need in row.run.needs if need in names)] or left
        ordered += ready
        left = [row for row in left if row not in ready]
    return ordered


def choose_attempt(data: RunData, wanted: str) -> AttemptData | None:
    """The attempt whose log is shown: the one asked for, else the newest of what runs, of what failed, of any."""
    if wanted:
        for attempt in data.attempts:
            if attempt.id == wanted:
                return attempt
        raise NotFound("There is no such attempt of this run.")
    for states in (("preparing", "running", "saving"), ("failed", "lost", "preempted")):
        if found := [attempt for attempt in data.attempts if attempt.state in states]:
            return found[-1]
    return data.attempts[-1] if data.attempts else None


def whole_number(request: Request, name: str) -> int | None:
    """A whole number of the address, None where it is not given. Raises Malformed for anything else."""
    text = request.query_params.get(name)
    if text is None:
        return None
    if not _is_number(text):
        raise Malformed(f"`{name}` must be a whole number.")
    return int(text)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 16
