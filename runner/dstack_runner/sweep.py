"""Clears away what an earlier runner of the same data folder, or a supervisor that was killed, left running.

Supervisors clear up behind a dying runner by themselves; this is the second net, for when both died.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from dstack_runner import cgroup, processes
from dstack_runner.executors import record
from dstack_runner.executors.base import MARK
from dstack_runner.workspace import remove_tree

log = logging.getLogger(__name__)
DEADLINE_S = 10.0
_SUPERVISOR_S = 2.0  # a living supervisor of a dead runner is already killing: it gets this long to finish
_PAUSE_S = 0.02


@dataclass(frozen=True, slots=True)
class Strays:
    """By what the processes of one launch are known: its mark, its user, its cgroups, the session it began in, and its
    supervisor with its start time."""

    scope: str = ""
    uid: int | None = None
    groups: tuple[Path, ...] = ()
    session: int | None = None
    supervisor: tuple[int, int] | None = None


def sweep(records: Path, clean_user: Callable[[int], object] = bool) -> list[str]:
    """Kill what the launches recorded in `records` left, remove their cgroups and the records.

    `clean_user` is told each job user they had: `UserPool.clean` of this runner, which spares a user that another
    runner of the machine has by now.

    Answers the scopes that were found, living or not: the attempts that had a process when the last runner ended. To be
    called at the start, before anything is launched, by a runner that alone owns the folder.
    """
    scopes: dict[str, None] = {}
    for path in sorted(records.glob("*.json")):
        known = record.read(path)
        if known is not None:
            scopes[known.scope] = None
            _clear(known)
            if known.uid is not None:
                clean_user(known.uid)
        path.unlink(missing_ok=True)
    return list(scopes)


def _clear(known: record.Record) -> None:
    deadline = time.monotonic() + _SUPERVISOR_S
    while processes.start_time(known.supervisor) == known.started and time.monotonic() < deadline:
        time.sleep(_PAUSE_S)
    groups = tuple(Path(group) for group in known.groups)
    kill(Strays(known.scope, groups=groups, supervisor=(known.supervisor, known.started)))
    for group in groups:
        cgroup.remove(group)


def kill(strays: Strays) -> int:
    """KILL everything that is known by `strays`, with its descendants; answers how many there were at first.

    Gives up after `DEADLINE_S`: what KILL does not end by then hangs in the kernel.
    """
    found = find(strays)
    deadline = time.monotonic() + DEADLINE_S
    targets = found
    while targets and time.monotonic() < deadline:
        processes.signal_all(targets, signal.SIGSTOP)  # who stands still starts no more
        processes.signal_all(find(strays), signal.SIGKILL)
        time.sleep(_PAUSE_S)
        targets = find(strays)
    return len(found)


def find(strays: Strays) -> list[int]:
    """The living processes of a launch. This process and those it descends from are never among them, whatever their
    marks: a runner may itself be tested inside a job."""
    parent_of = processes.parents()
    spared = _line_of(os.getpid(), parent_of)
    roots = {pid for pid in parent_of if _belongs(pid, strays)} - spared
    roots |= {pid for group in strays.groups for pid in cgroup.members(group)} - spared
    return sorted({*roots, *processes.below(roots, parent_of)} - spared)


def _belongs(pid: int, strays: Strays) -> bool:
    return bool(
        (strays.uid is not None and processes.owner(pid) == strays.uid)
        or (strays.session is not None and processes.session(pid) == strays.session)
        or (strays.supervisor is not None and (pid, processes.start_time(pid)) == strays.supervisor)
        or (strays.scope and processes.environment_has(pid, f"{MARK}={strays.scope}".encode()))
    )


def _line_of(pid: int, parent_of: dict[int, int]) -> set[int]:
    line = set()
    while pid and pid not in line:
        line.add(pid)
        pid = parent_of.get(pid, 0)
    return line


def remove_files_of(uid: int, folders: Iterable[Path]) -> int:
    """Remove what a user left in `folders` that everybody may write to; answers how many entries went."""
    count = 0
    for folder in folders:
        if not folder.is_dir():
            continue
        for entry in folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if entry.lstat().st_uid == uid:
                    _remove(entry)
                    count += 1
    return count


def _remove(entry: Path) -> None:
    try:
        remove_tree(entry)
    except OSError as error:
        log.warning("%s cannot be deleted: %s", entry, error)  # the others can
