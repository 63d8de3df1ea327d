"""What is written down of a launch while it lives, so that a later runner can clear away what this one had to leave."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Record:
    """`supervisor` with its start time names one process for ever; `groups` are the folders of its cgroups."""

    scope: str
    supervisor: int
    started: int
    uid: int | None = None
    groups: tuple[str, ...] = ()

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))


def read(path: Path) -> Record | None:
    """None for a record cut short by a crash, or gone."""
    try:
        data = json.loads(path.read_text())
        return Record(**{**data, "groups": tuple(data["groups"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def name_of(scope: str, number: int) -> str:
    """Unique on the machine, and a plain file name whatever the scope is."""
    plain = "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in scope)
    return f"{plain[:80]}-{os.getpid()}-{number}"
