"""While webhooks come one upon another they go first; handling what they brought waits, but never for long."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import pytest
from joined_github import Joined
from served_api import unique, wait_for

from dstack.server.handlers import HANDLERS
from dstack.server.models import Delivery
from dstack.server.models.delivery import DeliveryState
from dstack.server.rush import Rush
from dstack.server.services.settle_delivery import settle_delivery
from dstack.server.transitions.deliveries import receive_delivery
from dstack.server.wiring import Wiring


@dataclass
class Hands:
    """A clock that is moved by hand."""

    now: float

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def hands() -> Hands:
    return Hands(time.monotonic() + 100)  # later than what the scene has seen by the real one


@pytest.fixture
def rush(hands: Hands) -> Rush:
    return Rush(hands)


async def is_over(rush: Rush) -> bool:
    """Whether whoever lets a rush pass is through by now; `False` stands for ever while the clock does."""
    try:
        await asyncio.wait_for(rush.let_pass(), 0.03)
    except TimeoutError:
        return False
    return True


@pytest.mark.parametrize(
    ("came", "now", "over"),
    [
        ([], 0.0, True),
        ([0.0], 0.0, True),  # one alone is no rush
        ([0.0, 0.5, 1.0], 1.0, True),
        ([0.0, 0.005], 0.005, False),
        ([0.0, 0.005], 0.014, False),
        ([0.0, 0.005], 0.016, True),
        ([0.0, 0.005, 0.012], 0.016, False),  # the third one made it longer
        ([0.0, 0.005, 0.5], 0.5, True),
    ],
)
def test_a_rush_is_several_close_together(rush: Rush, hands: Hands, came: list[float], now: float, over: bool) -> None:
    begin = hands.now
    for at in came:
        hands.now = begin + at
        rush.note_one()
    hands.now = begin + now
    assert asyncio.run(is_over(rush)) is over


def test_nobody_waits_long_for_a_rush_without_end(rush: Rush, hands: Hands) -> None:
    async def wait_of() -> float:
        began = hands.now
        rush.note_one()
        rush.note_one()
        waiting = asyncio.create_task(rush.let_pass())
        async with asyncio.timeout(10):
            while not waiting.done():
                await asyncio.sleep(0.001)
                hands.now += 0.001
                rush.note_one()
        return hands.now - began

    assert 0.05 <= asyncio.run(wait_of()) < 0.1


def is_handled(scene: Joined, number: int = -1) -> bool:
    return scene.deliveries("ping")[number].state is DeliveryState.PROCESSED


def send_pings(scene: Joined, count: int, *, sign: bool = True) -> None:
    for number in range(count):
        scene.fake.send_raw("ping", {"zen": "Keep it logically awesome.", "hook_id": number}, sign=sign)
    scene.fake.flush()


def test_what_came_in_a_rush_is_handled_after_it(scene: Joined, hands: Hands) -> None:
    scene.api.wiring.rush.clock = hands  # it stands: all come at the same moment
    send_pings(scene, 3)
    assert not is_handled(scene)
    other = handle_one_of_our_own(scene)
    wait_for(lambda: other in HANDLED)  # somebody waits for it, and it comes from no forge
    assert not is_handled(scene)
    hands.now += 1.0
    wait_for(lambda: is_handled(scene))
    assert all(is_handled(scene, number) for number in range(3))


HANDLED: list[str] = []


def handle_one_of_our_own(scene: Joined) -> str:
    kind = unique("own")

    def handler(wiring: Wiring, delivery: Delivery) -> None:
        wiring.db.write(lambda s: settle_delivery(s, delivery.id or 0, DeliveryState.PROCESSED, "", 1.0))
        HANDLED.append(kind)

    HANDLERS[kind] = handler
    repo = scene.repo()
    assert repo is not None
    scene.api.wiring.db.write(
        lambda s: receive_delivery(s, kind, kind, {}, repo_id=repo.id, sender="ada", now=1.0) and None
    )
    return kind


def test_what_is_not_signed_makes_no_rush(scene: Joined, hands: Hands) -> None:
    scene.api.wiring.rush.clock = hands
    send_pings(scene, 3, sign=False)
    send_pings(scene, 1)
    wait_for(lambda: is_handled(scene))
