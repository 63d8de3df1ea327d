"""Questions to /proc about living processes: children, start times, users, marks; stdlib only, quick to import."""

# Importing pathlib would cost each launch five milliseconds.
# ruff: noqa: PTH116, PTH208

from __future__ import annotations

import os

# mypy reads the names below for types alone; importing `collections.abc` would cost the supervisor a millisecond.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_CHUNK = 4096


def pids() -> list[int]:
    """Every process of the machine that this one can see."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def parents() -> dict[int, int]:
    """Process to parent, zombies left out. Processes that end meanwhile are missing, those born meanwhile too."""
    table = {}
    for pid in pids():
        fields = _stat(pid)
        if fields and fields[0] not in ("Z", "X"):
            table[pid] = int(fields[1])
    return table


def below(roots: Iterable[int], parent_of: dict[int, int]) -> list[int]:
    """All descendants of `roots`, nearest first, the roots themselves left out."""
    children: dict[int, list[int]] = {}
    for pid, parent in parent_of.items():
        children.setdefault(parent, []).append(pid)
    found: list[int] = []
    seen = set(roots)
    layer = list(seen)
    while layer:
        layer = [child for pid in layer for child in children.get(pid, ()) if child not in seen]
        seen.update(layer)
        found += layer
    return found


def start_time(pid: int) -> int | None:
    """When the process started, in clock ticks since boot: with its number it names one process for ever.
    None when there is none (a zombie is none)."""
    fields = _stat(pid)
    return int(fields[19]) if fields and fields[0] not in ("Z", "X") else None


def session(pid: int) -> int | None:
    """The session the process is in: the number of the process that opened it."""
    fields = _stat(pid)
    return int(fields[3]) if fields else None


def owner(pid: int) -> int | None:
    """The real user id of the process, None when it is gone."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            for line in file:
                if line.startswith(b"Uid:"):
                    return int(line.split()[1])
    except OSError:
        return None
    return None


def has_any(uid: int) -> bool:
    """Whether the user seems to have a process: one look per process of the machine, so quick but not sure (a process
    may hide its user from this look; `owner` is sure)."""
    for pid in pids():
        try:
            if os.stat(f"/proc/{pid}").st_uid == uid:
                return True
        except OSError:
            continue
    return False


def environment_has(pid: int, entry: bytes) -> bool:
    """Whether the process was started with `entry` (`b"NAME=value"`) in its environment, as far as we may look."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return entry in file.read().split(b"\0")
    except OSError:
        return False


def signal_all(targets: Iterable[int], number: int) -> None:
    """Send a signal to each that still lives; one that is not ours to signal is passed over."""
    for pid in targets:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            pass


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the name: state, parent, group, ... Empty when the process is gone."""
    try:
        descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
    except OSError:
        return []
    try:
        text = os.read(descriptor, _CHUNK)
    except OSError:
        return []
    finally:
        os.close(descriptor)
    return text[text.rfind(b")") + 2 :].decode().split()
