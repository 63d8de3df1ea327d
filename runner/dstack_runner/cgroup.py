"""Limits and counts what a launch uses, by the kernel's control groups: version 1, 2 or none, as this machine lends.

A `Cgroups` finds out once where this process may make groups; a `Group` is one launch's, made before it starts and
removed after it ended. Who cannot be limited runs unlimited: `memory` of a launch is then only a wish.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

REMOVE_TRIES = 50
_REMOVE_PAUSE_S = 0.02


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """One tree of groups and the folder in it below which this process makes its own."""

    folder: Path
    version: int


@dataclass(frozen=True, slots=True)
class Group:
    """The groups of one launch, by controller. Several controllers may share a folder (version 2)."""

    folders: Mapping[str, Hierarchy]

    @property
    def paths(self) -> tuple[Path, ...]:
        return tuple(dict.fromkeys(hierarchy.folder for hierarchy in self.folders.values()))

    @property
    def join(self) -> tuple[str, ...]:
        """Files into which a process writes `0` to enter."""
        return tuple(str(path / "cgroup.procs") for path in self.paths)

    @property
    def kill(self) -> str:
        """The file that kills all members when `1` is written to it; empty where the kernel has none."""
        files = (path / "cgroup.kill" for path in self.paths)
        return next((str(file) for file in files if file.exists()), "")

    def oom_kills(self) -> int:
        """How many processes of it the kernel has killed for want of memory."""
        memory = self.folders.get("memory")
        if memory is None:
            return 0
        name = "memory.events" if memory.version == 2 else "memory.oom_control"
        return _counter(_read(memory.folder / name), "oom_kill")

    def remove(self) -> None:
        """Members must have ended. Safe to repeat."""
        for path in self.paths:
            remove(path)


class Cgroups:
    """Where this process may make groups, controller by controller (`memory`, `pids`)."""

    def __init__(self, homes: Mapping[str, Hierarchy]) -> None:
        self.homes = homes

    @classmethod
    def find(cls, mounts: str | None = None, own: str | None = None) -> Cgroups:
        """Look at this machine (`mounts`, `own`: what /proc/self/mounts and /proc/self/cgroup say) and try each."""
        places = homes(mounts or _read(Path("/proc/self/mounts")), own or _read(Path("/proc/self/cgroup")))
        return cls({name: home for name, home in places.items() if _can_make(home, name)})

    def make(self, name: str, memory: int | None, pids: int | None) -> Group | None:
        """A group called `name` under these limits; None when no limit is asked or none can be set here."""
        wanted = {"memory": memory, "pids": pids}
        made: dict[str, Hierarchy] = {}
        for controller, value in wanted.items():
            home = self.homes.get(controller)
            if value is None or home is None:
                continue
            folder = home.folder / f"dstack-{name}"
            folder.mkdir(exist_ok=True)
            made[controller] = Hierarchy(folder, home.version)
            for file, text in settings(controller, home.version, value):
                _write(folder / file, text)
        return Group(made) if made else None


def settings(controller: str, version: int, value: int) -> list[tuple[str, str]]:
    """Which files of a group say the limit, in order. Swap is closed too: a job that swaps is only slower."""
    if controller == "pids":
        return [("pids.max", str(value))]
    if version == 2:
        return [("memory.max", str(value)), ("memory.swap.max", "0"), ("memory.oom.group", "0")]
    return [("memory.limit_in_bytes", str(value)), ("memory.memsw.limit_in_bytes", str(value))]


def homes(mounts: str, own: str) -> dict[str, Hierarchy]:
    """Where groups would go, by the words of /proc/self/mounts and /proc/self/cgroup.

    Version 2 allows members only in leaves: this process sits in its group, so new ones go beside it, below its parent
    (below itself when that is the root, which is exempt).
    """
    mine = {}
    for line in own.splitlines():
        _, controllers, path = line.split(":", 2)
        mine.update(dict.fromkeys(controllers.split(","), path))
    found: dict[str, Hierarchy] = {}
    for line in mounts.splitlines():
        _, folder, kind, options, *_ = line.split()
        names = {"memory", "pids"} & set(options.split(","))
        if kind == "cgroup":
            found.update({name: Hierarchy(_below(folder, mine.get(name, "/")), 1) for name in names})
        elif kind == "cgroup2":
            home = Hierarchy(_below(folder, str(Path(mine.get("", "/")).parent)), 2)
            found = {"memory": home, "pids": home, **found}
    return found


def _below(mount: str, path: str) -> Path:
    folder = Path(mount) / path.lstrip("/")
    return folder if folder.is_dir() else Path(mount)  # inside a container the path is often the host's


def _can_make(home: Hierarchy, controller: str) -> bool:
    """Really make one: rights, delegation and kernel options decide, and none of them can be asked for."""
    folder = home.folder / f"dstack-probe-{os.getpid()}"
    try:
        folder.mkdir(exist_ok=True)
    except OSError:
        return False
    try:
        return all((folder / file).exists() for file, _ in settings(controller, home.version, 0)[:1])
    finally:
        remove(folder)


def members(folder: Path) -> list[int]:
    """The processes in a group."""
    return [int(word) for word in _read(folder / "cgroup.procs").split()]


def remove(folder: Path) -> None:
    """Remove a group whose members have ended. The kernel needs a moment to notice, so a few tries. Safe to repeat."""
    for _ in range(REMOVE_TRIES):
        try:
            folder.rmdir()
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno != errno.EBUSY:
                return
            time.sleep(_REMOVE_PAUSE_S)
        else:
            return


def machine_oom_kills() -> int:
    """How many processes this machine has killed for want of memory since it started."""
    return _counter(_read(Path("/proc/vmstat")), "oom_kill")


def _counter(text: str, name: str) -> int:
    for line in text.splitlines():
        words = line.split()
        if len(words) == 2 and words[0] == name:
            return int(words[1])
    return 0


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _write(path: Path, text: str) -> None:
    """A limit the kernel does not know (no swap accounting) or refuses is passed over: the others still hold."""
    with contextlib.suppress(OSError):
        path.write_text(text)
