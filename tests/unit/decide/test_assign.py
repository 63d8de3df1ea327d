"""Which queued job goes where, and what the others wait for in words."""

import pytest

from dstack.server.decide.assign import Holding, Machine, Placement, QueuedJob, Wait, assign, explain_wait
from dstack.wire.job import Gpu, Resources
from dstack.wire.runner import Capacity, Device

GB = 1024**3


def gpus(count: int, name: str = "A100", memory: int = 40, busy: int = 0, prefix: str = "g") -> tuple[Device, ...]:
    return tuple(
        Device(f"{prefix}{i}", name, memory * GB, "used by process 9 (python)" if i < busy else "")
        for i in range(count)
    )


def machine(number: int = 1, **capacity: object) -> Machine:
    base = {"cpu": 8, "memory": 32 * GB, "slots": 4}
    return Machine(number, f"m{number}", Capacity(**{**base, **capacity}))  # type: ignore[arg-type]


def need(gpu: int = 0, **more: object) -> Resources:
    return Resources(gpu=Gpu(gpu), **more)  # type: ignore[arg-type]


def test_jobs_are_placed_in_queue_order_until_slots_run_out() -> None:
    decisions = assign([QueuedJob(n, need()) for n in range(6)], [machine(slots=4)])
    assert [type(d).__name__ for d in decisions] == ["Placement"] * 4 + ["Wait"] * 2
    assert [d.job for d in decisions] == list(range(6))
    assert decisions[4] == Wait(4, "waits for a free slot on m1")


def test_gpus_are_given_whole_and_to_one_job_only() -> None:
    decisions = assign(
        [QueuedJob(1, need(1)), QueuedJob(2, need(1)), QueuedJob(3, need(1))], [machine(devices=gpus(2))]
    )
    assert decisions == [Placement(1, 1, ("g0",)), Placement(2, 1, ("g1",)), Wait(3, "waits for 1 GPU; 0 free now")]


def test_a_job_that_waits_does_not_block_a_smaller_one_behind_it() -> None:
    decisions = assign([QueuedJob(1, need(4)), QueuedJob(2, need())], [machine(devices=gpus(1))])
    assert decisions == [Wait(1, "needs 4 GPUs; the largest runner has 1"), Placement(2, 1, ())]


def test_a_job_without_gpus_prefers_a_machine_without() -> None:
    decisions = assign([QueuedJob(1, need())], [machine(1, devices=gpus(2)), machine(2)])
    assert decisions == [Placement(1, 2, ())]


def test_what_attempts_and_offers_hold_is_not_given_again() -> None:
    full = machine(devices=gpus(2))
    full.holdings.append(Holding(("g1",), need(1)))
    assert assign([QueuedJob(1, need(1))], [full]) == [Placement(1, 1, ("g0",))]


def test_memory_and_cores_are_shared_out() -> None:
    decisions = assign([QueuedJob(n, need(memory=20 * GB)) for n in (1, 2)], [machine()])
    assert decisions == [Placement(1, 1, ()), Wait(2, "waits for 20GB of memory to come free on m1")]


def test_offline_and_draining_machines_get_nothing() -> None:
    off, draining = machine(1), machine(2)
    off.online, draining.draining = False, True
    assert assign([QueuedJob(1, need())], [off, draining]) == [Wait(1, "m2 is draining and takes no new work")]


def test_names_match_as_a_part_in_any_case_and_memory_is_a_minimum() -> None:
    wanted = Resources(gpu=Gpu(1, "a100", 40 * GB))
    small = machine(1, devices=gpus(1, "NVIDIA A100-SXM4", 20))
    large = machine(2, devices=gpus(1, "NVIDIA A100-SXM4", 40))
    assert assign([QueuedJob(1, wanted)], [small, large]) == [Placement(1, 2, ("g0",))]


NO_TAKER = (
    "needs a runner that takes untrusted work (DSTACK_RUNNER_UNTRUSTED=1) and gives jobs a user of their own; "
    "none is online"
)


@pytest.mark.parametrize(
    ("isolated", "untrusted", "decision"),
    [
        (False, False, Wait(1, NO_TAKER)),
        (True, False, Wait(1, NO_TAKER)),
        (False, True, Wait(1, NO_TAKER)),  # whatever a runner says of itself
        (True, True, Placement(1, 1, ())),
    ],
)
def test_a_strangers_job_goes_only_where_both_hold(isolated: bool, untrusted: bool, decision: object) -> None:
    runner = machine(isolated=isolated, untrusted=untrusted)
    assert assign([QueuedJob(1, need(), trusted=False), QueuedJob(2, need())], [runner]) == [
        decision,
        Placement(2, 1, ()),  # a trusted one may run on any
    ]


def test_a_stranger_waits_for_its_runner_in_the_usual_words() -> None:
    taker = machine(1, slots=1, isolated=True, untrusted=True)
    queue = [QueuedJob(1, need(), trusted=False), QueuedJob(2, need(), trusted=False), QueuedJob(3, need())]
    assert assign(queue, [taker, machine(2, slots=1)])[:2] == [
        Placement(1, 1, ()),
        Wait(2, "waits for a free slot on m1"),  # that of m2 is not for it
    ]
    machines = [machine(1, devices=gpus(1)), machine(2, isolated=True, untrusted=True)]
    assert explain_wait(need(1), machines, trusted=False) == "needs 1 GPU; the largest runner has none"


@pytest.mark.parametrize(
    ("needs", "machines", "why"),
    [
        (need(), [], "no runner is online; start one with `dstack-runner start`"),
        (need(1), [machine()], "needs 1 GPU; the largest runner has none"),
        (need(4), [machine(devices=gpus(1))], "needs 4 GPUs; the largest runner has 1"),
        (Resources(gpu=Gpu(1, "H100")), [machine(devices=gpus(2))], "needs 1 H100 GPU; the largest runner has none"),
        (
            Resources(gpu=Gpu(1, None, 80 * GB)),
            [machine(devices=gpus(2))],
            "needs 1 GPU with 80GB; the largest runner has none",
        ),
        (need(labels=("big",)), [machine()], "needs a runner labelled big; none is online"),
        (need(memory=64 * GB), [machine()], "needs 64GB of memory; the largest runner has 32GB"),
        (need(cpu=64), [machine()], "needs 64 CPU cores; the largest runner has 8"),
        (
            need(1),
            [machine(devices=gpus(1, busy=1))],
            "waits for 1 GPU; 0 free now (one is used by process 9 (python))",
        ),
        (
            Resources(cpu=16, memory=48 * GB),
            [machine(1, cpu=16), machine(2, memory=64 * GB)],
            "no single runner has all that it needs together",
        ),
    ],
)
def test_what_a_job_waits_for(needs: Resources, machines: list[Machine], why: str) -> None:
    assert explain_wait(needs, machines) == why
