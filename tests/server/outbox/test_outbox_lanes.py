"""All lanes at work in a server's event loop, by the real clock."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from outbox_scene import REPO, Scene, play

from dstack.server.bus import OUTBOX
from dstack.server.clock import Clock
from dstack.server.models import OutboxMark, Repo
from dstack.server.outbox_lane import SENDERS
from dstack.server.outbox_lanes import OutboxLanes
from dstack.server.outbox_sending import Sender
from dstack.server.store.outbox import CHECK, STATUS
from dstack.server.wiring import Wiring
from dstack.server.workers import Worker, run_worker


@contextmanager
def at_work(wiring: Wiring, senders: dict[str, Sender] | None = None) -> Iterator[OutboxLanes]:
    """The worker of the outbox in a loop of its own."""
    loop = asyncio.new_event_loop()
    lanes = OutboxLanes(wiring, senders or SENDERS)
    wiring.bus.attach(loop)

    async def work() -> None:
        await run_worker(wiring, Worker("forge", OUTBOX, 30.0, lanes.send))

    task = loop.create_task(work())
    thread = threading.Thread(target=loop.run_until_complete, args=(asyncio.wait([task]),))
    thread.start()
    try:
        yield lanes
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join(20)
        assert not thread.is_alive()
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


def eventually(condition: Callable[[], Any], timeout_s: float = 20) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (answer := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)
    return answer


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Scene]:
    with play(tmp_path, Clock(), github_write_gap_s=0.05) as scene:  # type: ignore[arg-type]
        yield scene


def test_an_end_is_on_github_within_a_second(live: Scene) -> None:
    live.github.delay_ms = 50
    took = []
    with at_work(live.wiring):
        for _ in range(5):
            run = live.run()
            live.begin(run)
            eventually(lambda: live.statuses().get("dstack/train", ("", ""))[1].startswith("runner-1"))
            ended = time.monotonic()
            live.end(run)
            eventually(lambda: live.statuses()["dstack/train"][0] == "success")
            took.append(time.monotonic() - ended)
    assert median(took) <= 1, took


def test_one_write_at_a_time_in_a_lane_and_lanes_side_by_side(live: Scene) -> None:
    repo = Repo(owner="o", name="n", forge="github", forge_id="9", installation_id=live.installation + 1, created_at=0)
    live.wiring.db.write(lambda s: s.add(repo))
    guard, now, most = threading.Lock(), {1: 0, 2: 0}, {1: 0, 2: 0}
    together = threading.Event()
    done: list[str] = []

    def write(mark: OutboxMark) -> None:
        lane = int(mark.target[0])
        with guard:
            now[lane] += 1
            most[lane] = max(most[lane], now[lane])
            if now[1] and now[2]:
                together.set()
        together.wait(5)
        with guard:
            now[lane] -= 1
            done.append(mark.target)

    def send(wiring: Wiring, mark: OutboxMark) -> Iterator[Callable[[], None]]:
        yield lambda: write(mark)

    with at_work(live.wiring, {CHECK: send}):
        for number in range(5):
            live.mark(CHECK, f"1:{number}")
            live.mark(CHECK, f"2:{number}")
        eventually(lambda: len(done) == 10)
    assert most == {1: 1, 2: 1} and together.is_set()


def test_a_burst_of_marks_does_not_spin_and_nothing_is_lost(live: Scene) -> None:
    looks = []
    sent: set[str] = set()

    def send(wiring: Wiring, mark: OutboxMark) -> Iterator[Callable[[], None]]:
        yield lambda: sent.add(mark.target)

    with at_work(live.wiring, {STATUS: send}) as lanes:
        look = lanes._look
        lanes._look = lambda session: looks.append(1) or look(session)  # type: ignore[method-assign, func-returns-value]
        began = time.process_time()
        for number in range(400):
            live.mark(STATUS, f"1:{number % 20}")
        eventually(lambda: len(sent) == 20 and not live.marks(later=True))
        assert time.process_time() - began < 15
    assert len(looks) < 900


def test_a_wait_for_the_forge_ends_with_the_server(live: Scene) -> None:
    live.github.faults.secondary_limit("statuses", retry_after=3000, method="POST", count=None)
    with at_work(live.wiring):
        live.begin(live.run())
        eventually(lambda: live.github.calls("statuses", "POST"))
        began = time.monotonic()
    assert time.monotonic() - began < 5
    assert live.github.statuses(REPO, live.sha) == {}


def test_nothing_is_looked_at_without_an_app(live: Scene) -> None:
    live.wiring.forge.connect(None)
    lanes = OutboxLanes(live.wiring)
    lanes._look = lambda session: pytest.fail("looked")  # type: ignore[method-assign]
    live.run()
    asyncio.run(lanes.send())
