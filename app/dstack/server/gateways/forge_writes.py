"""What we say at a forge: statuses, checks, issues, each whole; how their text is made is left to `server.report`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class StatusState(StrEnum):
    PENDING = "pending"
    SUCCESS = "success"
    FAILURE = "failure"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class StatusWrite:
    """`text` has at most 140 characters."""

    sha: str
    context: str
    state: StatusState
    text: str
    url: str


@dataclass(frozen=True, slots=True)
class Annotation:
    """A remark on a line of a file of the commit; `level` is notice, warning or failure."""

    path: str
    line: int
    level: str
    message: str
    title: str = ""


@dataclass(frozen=True, slots=True)
class CheckButton:
    """A button shown after completion: label up to 20 characters, description 40, identifier 20."""

    label: str
    description: str
    identifier: str


@dataclass(frozen=True, slots=True)
class CheckWrite:
    """A check run whole: `conclusion` empty while it goes on (`status` queued or in_progress). `external_id` is ours,
    by which one whose making was not confirmed is found again. Summary and text have at most 65 535 bytes each."""

    name: str
    sha: str
    external_id: str
    url: str
    status: str
    title: str
    summary: str
    text: str = ""
    conclusion: str = ""
    annotations: tuple[Annotation, ...] = ()
    buttons: tuple[CheckButton, ...] = ()
    started_at: float | None = None
    completed_at: float | None = None


@dataclass(frozen=True, slots=True)
class IssueWrite:
    title: str
    body: str
    is_open: bool = True
