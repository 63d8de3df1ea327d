"""Which queued job goes to which runner, with which GPUs: a pure function of one snapshot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from dstack.wire.job import Gpu, Resources
from dstack.wire.runner import Capacity, Device

_GB = 1024**3


@dataclass(frozen=True, slots=True)
class QueuedJob:
    """A job in queue order. `without_gpus` is what to type to run it without any, where that is known. One that is not
    `trusted` goes only to a machine that takes such work."""

    id: int
    needs: Resources
    without_gpus: str = ""
    trusted: bool = True


@dataclass(frozen=True, slots=True)
class Holding:
    """What one live attempt or open offer holds of its runner."""

    devices: tuple[str, ...]
    needs: Resources


@dataclass(slots=True)
class Machine:
    """A runner as assignment sees it; `holdings` grows while offers are made."""

    id: int
    name: str
    capacity: Capacity
    online: bool = True
    draining: bool = False
    holdings: list[Holding] = field(default_factory=list)

    @property
    def free_slots(self) -> int:
        return self.capacity.slots - len(self.holdings)

    @property
    def free_cpu(self) -> int:
        return self.capacity.cpu - sum(h.needs.cpu or 0 for h in self.holdings)

    @property
    def free_memory(self) -> int:
        return self.capacity.memory - sum(h.needs.memory or 0 for h in self.holdings)

    def free_devices(self, gpu: Gpu) -> list[Device]:
        """Devices that match, are held by no job of ours and used by no foreign process."""
        held = {device for holding in self.holdings for device in holding.devices}
        return [d for d in self.capacity.devices if d.id not in held and not d.busy and _matches(d, gpu)]


@dataclass(frozen=True, slots=True)
class Placement:
    """An offer to make."""

    job: int
    runner: int
    devices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wait:
    """A job that stays in the queue, and what it waits for in words."""

    job: int
    why: str


def assign(queue: Sequence[QueuedJob], machines: Sequence[Machine]) -> list[Placement | Wait]:
    """Go through the queue in order; each job takes the tightest fit that is free now.

    A job that fits nowhere now does not block smaller ones behind it. `machines` are consumed: their holdings grow.
    """
    usable = [m for m in machines if m.online and not m.draining]
    decisions: list[Placement | Wait] = []
    # Most of a long queue asks for the same: once a kind of need fits nowhere, it fits nowhere for the rest.
    refused: dict[tuple[Resources, bool], str] = {}
    for job in queue:
        kind = (job.needs, job.trusted)
        fits = (
            [m for m in usable if _may_take(m, job.trusted) and _fits_now(m, job.needs)] if kind not in refused else []
        )
        if not fits:
            if kind not in refused:
                refused[kind] = explain_wait(job.needs, machines, trusted=job.trusted)
            decisions.append(Wait(job.id, refused[kind] + _how_without(job, machines)))
            continue
        best = min(fits, key=lambda m: (len(m.capacity.devices), -m.free_slots, m.id))
        devices = tuple(d.id for d in best.free_devices(job.needs.gpu)[: job.needs.gpu.count])
        best.holdings.append(Holding(devices, job.needs))
        decisions.append(Placement(job.id, best.id, devices))
    return decisions


def _how_without(job: QueuedJob, machines: Sequence[Machine]) -> str:
    """What to type, where GPUs are wanted and no machine has one."""
    if not (job.needs.gpu.count and job.without_gpus):
        return ""
    online = [m for m in machines if m.online]
    if not online or any(m.capacity.devices for m in online):
        return ""
    return f"; to run without: {job.without_gpus}"


def explain_wait(needs: Resources, machines: Sequence[Machine], *, trusted: bool = True) -> str:
    """What a job with these needs waits for, in words, the nearest obstacle first."""
    online = [m for m in machines if m.online]
    if not online:
        return "no runner is online; start one with `dstack-runner start`"
    online = [m for m in online if _may_take(m, trusted)]
    if not online:
        return (
            "needs a runner that takes untrusted work (DSTACK_RUNNER_UNTRUSTED=1) and gives jobs a user of their own; "
            "none is online"
        )
    able = [m for m in online if _could_ever_fit(m, needs)]
    if not able:
        return _never(needs, online)
    if all(m.draining for m in able):
        return f"{able[0].name} is draining and takes no new work"
    busy = next((d.busy for m in able for d in m.capacity.devices if d.busy and _matches(d, needs.gpu)), "")
    if needs.gpu.count and all(len(m.free_devices(needs.gpu)) < needs.gpu.count for m in able):
        free = max(len(m.free_devices(needs.gpu)) for m in able)
        also = f" (one is {busy})" if busy else ""
        return f"waits for {_gpus(needs.gpu)}; {free} free now{also}"
    if all(m.free_slots < 1 for m in able):
        return f"waits for a free slot on {_names(able)}"
    return f"waits for {_cpu_memory(needs)} to come free on {_names(able)}"


def _never(needs: Resources, online: Sequence[Machine]) -> str:
    gpu = needs.gpu
    if gpu.count:
        largest = max(sum(_matches(d, gpu) for d in m.capacity.devices) for m in online)
        if largest < gpu.count:
            return f"needs {_gpus(gpu)}; the largest runner has {largest or 'none'}"
    if missing := [label for label in needs.labels if not any(label in m.capacity.labels for m in online)]:
        return f"needs a runner labelled {', '.join(missing)}; none is online"
    if needs.memory and needs.memory > (most := max(m.capacity.memory for m in online)):
        return f"needs {_bytes(needs.memory)} of memory; the largest runner has {_bytes(most)}"
    if needs.cpu and needs.cpu > (cores := max(m.capacity.cpu for m in online)):
        return f"needs {needs.cpu} CPU cores; the largest runner has {cores}"
    return "no single runner has all that it needs together"


def _may_take(machine: Machine, trusted: bool) -> bool:
    return trusted or machine.capacity.takes_untrusted


def _could_ever_fit(machine: Machine, needs: Resources) -> bool:
    capacity = machine.capacity
    return (
        sum(_matches(d, needs.gpu) for d in capacity.devices) >= needs.gpu.count
        and (needs.cpu or 0) <= capacity.cpu
        and (needs.memory or 0) <= capacity.memory
        and set(needs.labels) <= set(capacity.labels)
    )


def _fits_now(machine: Machine, needs: Resources) -> bool:
    return (
        machine.free_slots > 0
        and (needs.cpu or 0) <= machine.free_cpu
        and (needs.memory or 0) <= machine.free_memory
        and set(needs.labels) <= set(machine.capacity.labels)
        and len(machine.free_devices(needs.gpu)) >= needs.gpu.count
    )


def _matches(device: Device, gpu: Gpu) -> bool:
    return (not gpu.name or gpu.name.lower() in device.name.lower()) and device.memory >= (gpu.memory or 0)


def _gpus(gpu: Gpu) -> str:
    kind = f"{gpu.name} " if gpu.name else ""
    memory = f" with {_bytes(gpu.memory)}" if gpu.memory else ""
    return f"{gpu.count} {kind}GPU{'s' if gpu.count > 1 else ''}{memory}"


def _cpu_memory(needs: Resources) -> str:
    parts = [f"{needs.cpu} CPU cores" if needs.cpu else "", f"{_bytes(needs.memory)} of memory" if needs.memory else ""]
    return " and ".join(part for part in parts if part) or "room"


def _bytes(count: int) -> str:
    return f"{count / _GB:.3g}GB"


def _names(machines: Sequence[Machine]) -> str:
    names = [m.name for m in machines]
    return names[0] if len(names) == 1 else f"{', '.join(names[:3])}{' and others' if len(names) > 3 else ''}"
