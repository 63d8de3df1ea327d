"""Decides what a job under a user of its own sees of the machine's files; pure but for looking at modes and links.

The rule: folders that are closed to the job, and those the runner hides, are covered by empty ones, and only what the
launch names shows in them again. `mounts.py` takes the steps in the supervisor's child, where they end with the job.
"""

# Paths are walked here as text, step by step; pathlib would tidy away what is looked for.
# ruff: noqa: PTH116, PTH100, PTH118, PTH114, PTH115, PTH110, PTH112

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dstack_runner.executors.base import JobUser, Launch, Mount, StartFailed
from dstack_runner.mounts import BIND, COVER, LINK

# (kind, target, source, writable), as `mounts.enter` takes them.
Step = tuple[str, str, str, bool]

# Where everybody may write: every job gets its own, or what it leaves would wait there for the next.
_ON_DISK = ("/tmp", "/var/tmp")  # noqa: S108
_IN_MEMORY = ("/dev/shm", "/dev/mqueue", "/run/lock")  # noqa: S108
_OPEN_MODE, _TMP_MODE = "0755", "1777"
_MAX_LINKS = 40  # as the kernel


@dataclass(frozen=True, slots=True)
class Need:
    """A file or folder the job must reach: its real path, and the symbolic links by which it is named."""

    path: str
    writable: bool = False
    links: tuple[tuple[str, str], ...] = ()  # (the link's own real path, where it points)


def view(launch: Launch, hidden: Sequence[Path] = ()) -> list[Step]:
    """The steps that give `launch` its view. Raises StartFailed when it names what is not there."""
    assert launch.user is not None
    needs = [_need(path) for path in launch.visible if path.exists()]
    needs += [_need(_there(path), writable=True) for path in (*launch.writable, launch.cwd)]
    targets = [_real_target(mount) for mount in launch.mounts]
    reached = [need.path for need in needs] + [link for need in needs for link, _ in need.links] + targets
    covers = [*closed_above(reached, launch.user), *(os.path.realpath(path) for path in hidden)]
    mounted = [
        (BIND, target, str(_there(m.source)), m.writable) for target, m in zip(targets, launch.mounts, strict=True)
    ]
    return plan(needs, covers, own_places(launch.tmp)) + mounted


def plan(needs: Iterable[Need], covers: Iterable[str], own: Iterable[Step] = ()) -> list[Step]:
    """Covers, and what shows through them again, outermost first.

    `own` are the job's own folders (its /tmp), which hide what was there as covers do. What nothing hides needs no
    step, nor does a cover inside a cover, unless something shows through in between.
    """
    shown: dict[str, bool] = {}  # real path -> whether it shows the machine's files (False: covered)
    writable: dict[str, bool] = {}
    steps: list[Step] = []
    for rank, step in sorted(_candidates(needs, covers, own), key=lambda c: (_depth(c[1][1]), c[0], c[1])):
        path = step[1]
        above = next((p for p in (path, *map(str, Path(path).parents)) if p in shown), None)
        is_covered = above is not None and not shown[above]
        if rank == _OWN or (rank == _COVER and not is_covered):
            shown[path] = False
        elif rank == _NEED and above is not None and (is_covered or writable[above] < step[3]):
            shown[path], writable[path] = True, step[3]
        elif rank != _LINK or not is_covered:
            continue
        steps.append(step)
    return steps


# At one path, the later hides the earlier: a hidden folder that is also needed shows.
_COVER, _OWN, _NEED, _LINK = range(4)


def _candidates(needs: Iterable[Need], covers: Iterable[str], own: Iterable[Step]) -> list[tuple[int, Step]]:
    needs = list(needs)
    found = {(_COVER, (COVER, path, _OPEN_MODE, True)) for path in covers}
    found |= {(_OWN, step) for step in own}
    rights: dict[str, bool] = {}
    for need in needs:
        rights[need.path] = rights.get(need.path, False) or need.writable
    found |= {(_NEED, (BIND, path, path, right)) for path, right in rights.items()}
    found |= {(_LINK, (LINK, link, target, False)) for need in needs for link, target in need.links}
    return list(found)


def own_places(tmp: Path | None) -> list[Step]:
    """The job's own folders where everybody may write: `tmp` or fresh ones in memory; shared memory is always fresh."""
    kind, source = (BIND, str(_there(tmp))) if tmp else (COVER, _TMP_MODE)
    on_disk = [(kind, place, source, True) for place in _ON_DISK if _is_folder(place)]
    return on_disk + [(COVER, place, _TMP_MODE, True) for place in _IN_MEMORY if _is_folder(place)]


def closed_above(paths: Iterable[str], user: JobUser) -> list[str]:
    """The folders on the way to `paths` that `user` cannot walk through."""
    return sorted(
        path for path in {str(above) for path in paths for above in Path(path).parents} if _closed(path, user)
    )


def _closed(path: str, user: JobUser) -> bool:
    try:
        status = os.stat(path)
    except OSError:
        return False
    if status.st_uid == user.uid:
        return not status.st_mode & stat.S_IXUSR
    if status.st_gid == user.gid:
        return not status.st_mode & stat.S_IXGRP
    return not status.st_mode & stat.S_IXOTH


def _need(path: Path, *, writable: bool = False) -> Need:
    return Need(os.path.realpath(path), writable, tuple(_links(os.path.abspath(path))))


def _links(path: str) -> list[tuple[str, str]]:
    """Every symbolic link that a walk along `path` goes through, by its own real path."""
    found: list[tuple[str, str]] = []
    here, todo = "/", path.split("/")
    while todo and len(found) < _MAX_LINKS:
        name = todo.pop(0)
        there = os.path.normpath(os.path.join(here, name))
        if name and name != ".." and os.path.islink(there):
            target = os.readlink(there)
            found.append((there, target))
            here, todo = ("/" if target.startswith("/") else here), [*target.split("/"), *todo]
        else:
            here = there
    return found


def _there(path: Path) -> Path:
    if not path.exists():
        raise StartFailed(f"{path}: no such file or folder, and a job was to see it")
    return Path(os.path.realpath(path))


def _real_target(mount: Mount) -> str:
    """A link on the way could have been laid by an earlier command of the job, to make us mount elsewhere."""
    target = os.path.abspath(mount.target)
    if os.path.realpath(target) != target or not os.path.exists(target):
        raise StartFailed(
            f"{mount.target}: cannot mount {mount.source} there: it must exist and no part of it be a symbolic link"
        )
    return target


def _is_folder(place: str) -> bool:
    return os.path.isdir(place) and not os.path.islink(place)


def _depth(path: str) -> int:
    return 0 if path == "/" else path.count("/")
