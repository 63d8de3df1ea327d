"""Remarks on lines of the commit: where a traceback in the log points to, and problems of our own files; pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from pathlib import PurePosixPath
from typing import Final

from dstack.server.gateways.forge_writes import Annotation
from dstack.server.report.budget import cut
from dstack.server.report.markdown import readable
from dstack.server.report.tracebacks import MOST, Frame, Traceback, tracebacks_in

_MESSAGE_BYTES: Final = 8000  # the forge takes 64 KB; nobody reads that beside a line
_TITLE: Final = 200
_FOREIGN: Final = {"site-packages", "dist-packages", ".venv", "venv"}
_PROBLEM = re.compile(r"(?P<path>[^\s:]{1,300}\.(?:ya?ml|toml|json)):(?P<line>\d{1,7}):\d{1,7}: (?P<message>.+)")


def annotations_of_log(text: str, attempts: Collection[str]) -> tuple[Annotation, ...]:
    """For each traceback the innermost line that is the repository's own. `attempts` are the ids of the attempts that
    wrote the log: their files lay in a folder named so."""
    found: dict[tuple[str, int, str], Annotation] = {}
    for traceback in tracebacks_in(readable(text)):
        placed = _innermost(traceback, attempts)
        if placed is not None:
            path, frame = placed
            found[path, frame.line, traceback.error] = Annotation(
                path, frame.line, "failure", _message(traceback), traceback.error[:_TITLE]
            )
    return tuple(found.values())[-MOST:]


def annotations_of_problems(text: str) -> tuple[Annotation, ...]:
    """For every line that reads `file:line:column: problem`."""
    found = (_PROBLEM.search(line) for line in readable(text).split("\n"))
    return tuple(
        Annotation(match["path"], max(1, int(match["line"])), "failure", cut(match["message"], _MESSAGE_BYTES))
        for match in found
        if match is not None and _is_own(match["path"])
    )[:MOST]


def _innermost(traceback: Traceback, attempts: Collection[str]) -> tuple[str, Frame] | None:
    for frame in reversed(traceback.frames):
        path = path_in_repo(frame.path, attempts)
        if path is not None and frame.line > 0:
            return path, frame
    return None


def path_in_repo(path: str, attempts: Iterable[str]) -> str | None:
    """The path below the repository's root; None for files that are not of the commit."""
    for attempt in attempts:
        _, checkout, inside = path.partition(f"/{attempt}/work/")
        if checkout:
            return inside if _is_own(inside) else None
    return str(PurePosixPath(path)) if _is_own(path) else None


def _is_own(path: str) -> bool:
    """A plain relative path, and nothing that was installed."""
    parts = PurePosixPath(path).parts
    is_inside = bool(parts) and not path.startswith(("/", "<")) and ".." not in parts
    return is_inside and _FOREIGN.isdisjoint(parts)


def _message(traceback: Traceback) -> str:
    lines = [f'File "{frame.path}", line {frame.line}, in {frame.function}' for frame in traceback.frames[-20:]]
    return cut("\n".join([*lines, traceback.error]), _MESSAGE_BYTES)
