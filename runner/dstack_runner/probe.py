"""Finds out what this machine offers to jobs: cores, memory and GPUs, as its control groups and its driver allow."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from dstack.errors import Invalid
from dstack.wire.runner import Capacity, Device
from dstack_runner import nvml

_UNITS = {"M": 1024**2, "G": 1024**3, "T": 1024**4}
_GPUS = re.compile(
    r"(?P<name>[^:,]+):(?P<size>\d+(?:\.\d+)?)(?P<unit>[MGT])(?:i?B)?(?::(?P<count>\d+))?", re.IGNORECASE
)
_MAX_PRETEND = 1024
_NO_LIMIT = 1 << 60  # version 1 spells "no limit" as a number of this size


class Probe:
    """What the machine has, asked again at every poll. `pretend` declares GPUs instead of asking the driver."""

    def __init__(self, pretend: tuple[Device, ...] = (), patient: nvml.Patient | None = None) -> None:
        self._pretend = pretend
        self._patient = patient or nvml.Patient()
        self._known: dict[str, Device] = {}
        self.trouble = ""  # why the driver gave no answer to the last question, in words
        self.cpu = cores()
        self.memory = memory()

    def capacity(
        self,
        *,
        slots: int = 1,
        labels: tuple[str, ...] = (),
        isolated: bool = False,
        untrusted: bool = False,
        lent: Collection[str] = (),
    ) -> Capacity:
        """`lent` are the GPUs that jobs of this runner have now: whoever uses those is no stranger."""
        return Capacity(self.cpu, self.memory, self.devices(lent), slots, labels, isolated, untrusted)

    def devices(self, lent: Collection[str] = ()) -> tuple[Device, ...]:
        """Every GPU ever seen since the start: one that vanished or does not answer stays, as busy, with the reason."""
        if self._pretend:
            return self._pretend
        seen = self._patient.seen()
        self.trouble = seen if isinstance(seen, str) else ""
        if isinstance(seen, str):
            return tuple(replace(device, busy=seen) for device in self._known.values())
        found = judge(seen, lent, self._known)
        self._known = {device.id: device for device in found}
        return found


def judge(seen: Iterable[nvml.Seen], lent: Collection[str], known: dict[str, Device]) -> tuple[Device, ...]:
    """Which GPUs are there, and why one is not to be offered now; pure but for the names of processes."""
    found = {}
    for gpu in seen:
        before = known.get(gpu.uuid)
        name, size = (before.name, before.memory) if gpu.fault and before else (gpu.name, gpu.memory)
        found[gpu.uuid] = Device(gpu.uuid, name, size, _busy(gpu, gpu.uuid in lent))
    vanished = {uuid: replace(device, busy="lost from the machine") for uuid, device in known.items()}
    return tuple({**vanished, **found}.values())


def _busy(gpu: nvml.Seen, is_lent: bool) -> str:
    if gpu.fault:
        return f"unhealthy: {gpu.fault}"
    if gpu.pids and not is_lent:
        others = f" and {len(gpu.pids) - 1} more" if len(gpu.pids) > 1 else ""
        return f"used by process {gpu.pids[0]}{_program(gpu.pids[0])}{others}"
    return ""


def _program(pid: int) -> str:
    try:
        return f" ({Path(f'/proc/{pid}/comm').read_text().strip()})"
    except OSError:
        return ""


def parse_gpus(text: str) -> tuple[Device, ...]:
    """Pretend GPUs: `A100:40GB:2,H100:80GB` is two of one kind and one of another, with the ids "0", "1", "2".

    An empty text declares none. Raises Invalid.
    """
    devices: list[Device] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = _GPUS.fullmatch(part)
        if not match or not match["name"].strip():
            raise Invalid(f"DSTACK_RUNNER_GPUS: cannot read {part!r}", "write NAME:MEMORY:COUNT, as A100:40GB:2")
        size = int(float(match["size"]) * _UNITS[match["unit"].upper()])
        count = int(match["count"] or 1)
        if size == 0 or len(devices) + count > _MAX_PRETEND:
            raise Invalid(f"DSTACK_RUNNER_GPUS: {part!r} is out of bounds", f"at most {_MAX_PRETEND} GPUs, with memory")
        devices += [Device(str(len(devices) + i), match["name"].strip(), size) for i in range(count)]
    return tuple(devices)


def cores() -> int:
    """Whole cores this process may use: those it is bound to, less where a quota allows less; at least 1."""
    bound = len(os.sched_getaffinity(0))
    quotas = Limits.here().cpu_quotas()
    return max(1, math.floor(min([bound, *quotas])))


def memory() -> int:
    """Bytes this process and its jobs may use: the machine's, or the least of its control groups."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([total, *Limits.here().memory_limits()])


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits on the way from the root of the control groups to this process. `folders` by controller, both
    versions; those of version 2 hold all controllers."""

    cpu: tuple[Path, ...] = ()
    memory: tuple[Path, ...] = ()

    @classmethod
    def here(cls) -> Limits:
        return cls.parse(_read(Path("/proc/self/mounts")), _read(Path("/proc/self/cgroup")))

    @classmethod
    def parse(cls, mounts: str, own: str) -> Limits:
        """From the words of /proc/self/mounts and /proc/self/cgroup."""
        mine = {name: path for line in own.splitlines() for name, path in _memberships(line)}
        ways: dict[str, tuple[Path, ...]] = {"cpu": (), "memory": ()}
        for line in mounts.splitlines():
            _, folder, kind, options, *_ = line.split()
            for name in ways:
                if kind == "cgroup" and name in options.split(","):
                    ways[name] += _way(Path(folder), mine.get(name, "/"))
                elif kind == "cgroup2":
                    ways[name] += _way(Path(folder), mine.get("", "/"))
        return cls(ways["cpu"], ways["memory"])

    def cpu_quotas(self) -> list[float]:
        """In cores."""
        found = []
        for folder in self.cpu:
            words = _read(folder / "cpu.max").split()
            words = words or [_read(folder / "cpu.cfs_quota_us").strip(), _read(folder / "cpu.cfs_period_us").strip()]
            if all(word.isdecimal() for word in words) and len(words) == 2:  # else "max", or -1
                found.append(int(words[0]) / int(words[1]))
        return found

    def memory_limits(self) -> list[int]:
        """In bytes."""
        texts = (_read(folder / name) for folder in self.memory for name in ("memory.max", "memory.limit_in_bytes"))
        return [int(text) for text in texts if text.strip().isdecimal() and int(text) < _NO_LIMIT]


def _memberships(line: str) -> list[tuple[str, str]]:
    _, controllers, path = line.split(":", 2)
    return [(name, path) for name in controllers.split(",")]


def _way(mount: Path, path: str) -> tuple[Path, ...]:
    """The folder of a group and all above it, up to the mount."""
    own = mount / path.lstrip("/")
    return tuple(folder for folder in (own, *own.parents) if folder.is_relative_to(mount))


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
