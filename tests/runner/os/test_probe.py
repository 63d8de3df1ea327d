from __future__ import annotations

import os
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from dstack.errors import Invalid
from dstack.wire.runner import Device
from dstack_runner.nvml import Driver, Patient, Seen, short_name, sold_memory
from dstack_runner.probe import Limits, Probe, cores, judge, memory, parse_gpus

GIB = 1024**3
A = Seen("GPU-a", "A100-SXM4-40GB", 40 * GIB)


class Error(Exception):
    pass


class LibraryNotFound(Error):
    pass


class FakeNvml:
    """The part of pynvml we call, over a list of GPUs; a GPU is a dict, a MIG-cut one has `slices`."""

    NVMLError = Error
    NVMLError_LibraryNotFound = LibraryNotFound
    NVMLError_DriverNotLoaded = LibraryNotFound

    def __init__(self, *gpus: dict, init: Exception | None = None) -> None:
        self.gpus = list(gpus)
        self.init = init
        self.opened = 0

    def nvmlInit(self) -> None:
        self.opened += 1
        if self.init:
            raise self.init

    def nvmlDeviceGetCount(self) -> int:
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> dict:
        return self.gpus[index]

    def nvmlDeviceGetMigMode(self, gpu: dict) -> list[int]:
        if "mig" not in gpu:
            raise Error("Not Supported")
        return [gpu["mig"], gpu["mig"]]

    def nvmlDeviceGetMaxMigDeviceCount(self, gpu: dict) -> int:
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, gpu: dict, index: int) -> dict:
        if index >= len(gpu["slices"]):
            raise Error("Not Found")
        return gpu["slices"][index]

    def nvmlDeviceGetUUID(self, gpu: dict) -> str:
        return gpu["uuid"]

    def nvmlDeviceGetName(self, gpu: dict) -> bytes:
        return gpu["name"].encode()  # older libraries answer bytes

    def nvmlDeviceGetMemoryInfo(self, gpu: dict) -> SimpleNamespace:
        if gpu.get("lost"):
            raise Error("GPU is lost")
        return SimpleNamespace(total=gpu["memory"])

    def nvmlDeviceGetComputeRunningProcesses(self, gpu: dict) -> list[SimpleNamespace]:
        return [SimpleNamespace(pid=pid) for pid in gpu.get("pids", [])]


def h100(uuid: str = "GPU-1", **more) -> dict:
    return {"uuid": uuid, "name": "NVIDIA H100 80GB HBM3", "memory": 81559 * 1024**2, **more}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ()),
        ("A100:40GB:2", (Device("0", "A100", 40 * GIB), Device("1", "A100", 40 * GIB))),
        ("A100:40GB", (Device("0", "A100", 40 * GIB),)),
        ("A100:40GB:0", ()),
        (" RTX 4090:24g , T4:0.5TiB:1", (Device("0", "RTX 4090", 24 * GIB), Device("1", "T4", 512 * GIB))),
        ("V100:512mb", (Device("0", "V100", 512 * 1024**2),)),
    ],
)
def test_pretend_gpus_are_read(text: str, expected: tuple[Device, ...]) -> None:
    assert parse_gpus(text) == expected


@pytest.mark.parametrize(
    "text",
    ["A100", "A100:2", ":40GB:2", "A100:40:2", "A100:40GB:x", "A100:40GB:-1", "A100:0GB:1", "A100:40GB:9999", "::"],
)
def test_bad_pretend_gpus_are_refused_with_a_hint(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_gpus(text)
    assert "DSTACK_RUNNER_GPUS" in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("told", "short"),
    [
        ("NVIDIA A100-SXM4-40GB", "A100-SXM4-40GB"),
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("Tesla T4", "T4"),
        ("Quadro P400", "Quadro P400"),
        ("NVIDIA", "NVIDIA"),
    ],
)
def test_names_lose_their_maker(told: str, short: str) -> None:
    assert short_name(told) == short


@pytest.mark.parametrize(("mib", "gib"), [(81559, 80), (40960, 40), (40536, 40), (143771, 141), (24564, 24)])
def test_memory_is_the_size_a_card_is_sold_under(mib: int, gib: int) -> None:
    assert sold_memory(mib * 1024**2) == gib * GIB


def test_the_driver_is_read_and_opened_once() -> None:
    library = FakeNvml(h100(pids=[7, 8]), h100("GPU-2"))
    driver = Driver(library)
    expected = [Seen("GPU-1", "H100 80GB HBM3", 80 * GIB, (7, 8)), Seen("GPU-2", "H100 80GB HBM3", 80 * GIB)]
    assert driver.read() == driver.read() == expected
    assert library.opened == 1


def test_a_gpu_cut_by_mig_shows_as_its_slices() -> None:
    slices = [{"uuid": f"MIG-{i}", "name": "NVIDIA A100 MIG 1g.5gb", "memory": 4864 * 1024**2} for i in range(2)]
    found = Driver(FakeNvml({**h100(), "mig": 1, "slices": slices}, h100("GPU-2", mig=0))).read()
    assert [(gpu.uuid, gpu.memory) for gpu in found] == [("MIG-0", 5 * GIB), ("MIG-1", 5 * GIB), ("GPU-2", 80 * GIB)]


def test_without_a_driver_there_are_no_gpus() -> None:
    assert Driver(FakeNvml(h100(), init=LibraryNotFound())).read() == []


def test_the_real_library_answers_on_this_machine() -> None:
    assert isinstance(Patient(timeout_s=60).seen(), list)


def test_a_driver_that_fails_is_told_and_the_gpus_stay_known() -> None:
    answers: list[list[Seen] | Exception] = [[A], Error("Driver/library version mismatch"), [A]]

    def ask() -> list[Seen]:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    probe = Probe(patient=Patient(ask))
    assert probe.devices() == (Device("GPU-a", A.name, A.memory),)
    assert "version mismatch" in probe.devices()[0].busy
    assert "version mismatch" in probe.trouble
    assert (probe.devices()[0].busy, probe.trouble) == ("", "")


def test_a_driver_that_hangs_hangs_nobody_and_is_asked_once() -> None:
    calls: list[int] = []
    go_on = threading.Event()

    def ask() -> list[Seen]:
        calls.append(1)
        if len(calls) == 2:
            assert go_on.wait(30)
        return [A]

    patient = Patient(ask, timeout_s=0.05)
    probe = Probe(patient=patient)
    assert probe.devices()[0].busy == ""
    assert "not answered" in probe.devices()[0].busy
    assert "not answered" in probe.devices()[0].busy
    assert len(calls) == 2
    patient._timeout_s = 30
    go_on.set()
    assert probe.devices()[0].busy == ""


def test_two_that_ask_at_once_are_both_answered() -> None:
    """The runner polls while it says that it leaves."""
    both = threading.Barrier(2)
    patient = Patient(lambda: [A], timeout_s=30)
    answers: list[list[Seen] | str] = []

    def ask() -> None:
        for _ in range(200):
            both.wait(30)
            answers.append(patient.seen())

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [[A]] * 400


def test_a_gpu_somebody_else_uses_is_not_offered_and_says_who() -> None:
    name = Path(f"/proc/{os.getpid()}/comm").read_text().strip()
    seen = [
        Seen("GPU-a", "A100", GIB, (os.getpid(), 4)),
        Seen("GPU-b", "A100", GIB, (2**22 + 5,)),
        Seen("GPU-c", "A100", GIB),
    ]
    assert [device.busy for device in judge(seen, (), {})] == [
        f"used by process {os.getpid()} ({name}) and 1 more",
        f"used by process {2**22 + 5}",
        "",
    ]


def test_a_gpu_our_own_job_uses_is_not_called_busy() -> None:
    assert judge([Seen("GPU-a", "A100", GIB, (5,))], {"GPU-a"}, {})[0].busy == ""


def test_a_sick_or_vanished_gpu_stays_listed_with_the_reason() -> None:
    known = {"GPU-a": Device("GPU-a", "A100", GIB), "GPU-b": Device("GPU-b", "H100", GIB)}
    found = judge([Seen("GPU-b", "H100", 0, fault="GPU is lost")], (), known)
    assert found == (
        Device("GPU-a", "A100", GIB, "lost from the machine"),
        Device("GPU-b", "H100", GIB, "unhealthy: GPU is lost"),
    )


def test_a_gpu_that_fails_when_looked_at_names_itself() -> None:
    assert Driver(FakeNvml(h100(lost=True))).read() == [Seen("GPU-1", "H100 80GB HBM3", 0, fault="GPU is lost")]


def test_pretend_gpus_replace_the_real_ones() -> None:
    pretend = parse_gpus("A100:40GB:2")
    capacity = Probe(pretend, Patient(lambda: [A])).capacity(slots=3, labels=("big",), isolated=True)
    assert (capacity.devices, capacity.slots, capacity.labels, capacity.isolated) == (pretend, 3, ("big",), True)


def test_this_machine_has_cores_and_memory() -> None:
    assert 1 <= cores() <= (os.cpu_count() or 1)
    assert 64 * 1024**2 < memory() <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text + "\n")


def test_version_1_groups_limit_by_any_group_above(tmp_path: Path) -> None:
    cpu, mem = tmp_path / "cpu", tmp_path / "memory"
    write(cpu / "job", cpu__cfs_quota_us="150000", cpu__cfs_period_us="100000")
    write(cpu, cpu__cfs_quota_us="-1", cpu__cfs_period_us="100000")
    write(mem / "job", memory__limit_in_bytes="9223372036854771712")
    write(mem, memory__limit_in_bytes="1000000")
    mounts = f"cgroup {cpu} cgroup rw,cpu,cpuacct 0 0\ncgroup {mem} cgroup rw,memory 0 0\nproc /proc proc rw 0 0\n"
    limits = Limits.parse(mounts, "3:cpu,cpuacct:/job\n2:memory:/job\n0::/\n")
    assert (limits.cpu_quotas(), limits.memory_limits()) == ([1.5], [1000000])


def test_version_2_groups_limit_too(tmp_path: Path) -> None:
    write(tmp_path / "a" / "b", cpu__max="max 100000", memory__max="max")
    write(tmp_path / "a", cpu__max="50000 100000", memory__max="2048")
    limits = Limits.parse(f"cgroup2 {tmp_path} cgroup2 rw 0 0\n", "0::/a/b\n")
    assert (limits.cpu_quotas(), limits.memory_limits()) == ([0.5], [2048])
