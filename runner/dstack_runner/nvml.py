"""Reads the machine's NVIDIA GPUs through NVML: what there is and which processes use it. Judges nothing."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

TIMEOUT_S = 5.0
_GIB = 1024**3
_MAKERS = ("NVIDIA", "Tesla", "GeForce")


@dataclass(frozen=True, slots=True)
class Seen:
    """One GPU, or one MIG slice of one, as the driver tells. `fault`: what is wrong with it, in the driver's words."""

    uuid: str
    name: str
    memory: int
    pids: tuple[int, ...] = ()
    fault: str = ""


class Driver:
    """The NVIDIA driver, opened at the first question and kept open: opening can take seconds."""

    def __init__(self, nvml: Any = None) -> None:
        """`nvml` is the pynvml module, or what behaves like it."""
        self._nvml = nvml
        self._is_open = False

    def read(self) -> list[Seen]:
        """Every GPU; none where there is no driver. Raises NVMLError. May hang when the driver does: see `Patient`."""
        if self._nvml is None:
            import pynvml  # late: a runner with pretend GPUs needs no library

            self._nvml = pynvml
        nvml = self._nvml
        if not self._is_open:
            try:
                nvml.nvmlInit()
            except (nvml.NVMLError_LibraryNotFound, nvml.NVMLError_DriverNotLoaded):
                return []
            self._is_open = True
        return [seen for handle in _handles(nvml) for seen in [_look(nvml, handle)] if seen]


def _handles(nvml: Any) -> Iterator[Any]:
    """Whole GPUs, and for those cut up by MIG their slices instead."""
    for index in range(nvml.nvmlDeviceGetCount()):
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
        except nvml.NVMLError:
            continue  # lost from the bus; what we knew of it is kept by the probe
        if _is_cut(nvml, handle):
            yield from _slices(nvml, handle)
        else:
            yield handle


def _is_cut(nvml: Any, handle: Any) -> bool:
    try:
        return bool(nvml.nvmlDeviceGetMigMode(handle)[0])
    except nvml.NVMLError:
        return False  # a model without MIG


def _slices(nvml: Any, handle: Any) -> Iterator[Any]:
    for index in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            yield nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
        except nvml.NVMLError:
            continue  # a place without a slice


def _look(nvml: Any, handle: Any) -> Seen | None:
    uuid = name = ""
    try:
        uuid = _text(nvml.nvmlDeviceGetUUID(handle))
        name = short_name(_text(nvml.nvmlDeviceGetName(handle)))
        memory = sold_memory(nvml.nvmlDeviceGetMemoryInfo(handle).total)
        pids = tuple(process.pid for process in nvml.nvmlDeviceGetComputeRunningProcesses(handle))
    except nvml.NVMLError as error:
        return Seen(uuid, name, 0, fault=str(error)) if uuid else None
    return Seen(uuid, name, memory, pids)


def short_name(name: str) -> str:
    """The model without its maker, as people write it: `NVIDIA A100-SXM4-40GB` -> `A100-SXM4-40GB`."""
    words = name.split()
    while len(words) > 1 and words[0] in _MAKERS:
        words.pop(0)
    return " ".join(words)


def sold_memory(total: int) -> int:
    """Bytes, rounded up to whole GiB: an "80GB" card reports 79.6, and a job that asks for 80 means that card."""
    return math.ceil(total / _GIB) * _GIB


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


class Patient:
    """Asks on a thread of its own, so that a driver that hangs does not hang the runner."""

    def __init__(self, ask: Callable[[], list[Seen]] | None = None, timeout_s: float = TIMEOUT_S) -> None:
        self._ask = ask or Driver().read
        self._timeout_s = timeout_s
        self._guard = threading.Lock()
        self._thread: threading.Thread | None = None
        self._answer: list[Seen] | Exception | None = None

    def seen(self) -> list[Seen] | str:
        """The answer; or in words why there is none. While one question hangs, no other is asked."""
        with self._guard:  # the loop asks while it polls, and once more when it leaves
            return self._seen()

    def _seen(self) -> list[Seen] | str:
        if self._thread is None:
            self._answer = None
            self._thread = threading.Thread(target=self._run, name="nvml", daemon=True)
            self._thread.start()
        self._thread.join(self._timeout_s)
        if self._thread.is_alive():
            return f"the NVIDIA driver has not answered for {self._timeout_s:.0f} s"
        self._thread = None
        answer = self._answer
        return answer if isinstance(answer, list) else f"the NVIDIA driver cannot be asked: {answer}"

    def _run(self) -> None:
        try:
            self._answer = self._ask()
        except Exception as error:  # noqa: BLE001  told by `seen`; whatever it is, the runner goes on without GPUs
            self._answer = error
