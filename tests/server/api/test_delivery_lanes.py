"""Deliveries side by side: a slow repository, a disk that refuses for a while."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from served_api import Api, unique, wait_for

from dstack.errors import Unavailable
from dstack.server.handlers import HANDLERS
from dstack.server.models import Delivery
from dstack.server.models.delivery import DeliveryState
from dstack.server.services.add_repo import add_repo
from dstack.server.services.settle_delivery import settle_delivery
from dstack.server.store.deliveries import delivery_by_guid
from dstack.server.transitions.deliveries import receive_delivery
from dstack.server.wiring import Wiring


@contextmanager
def handled(kind: str, act: Callable[[Delivery], None]) -> Iterator[None]:
    """Deliveries of this kind are settled after `act`."""

    def handler(wiring: Wiring, delivery: Delivery) -> None:
        act(delivery)
        wiring.db.write(lambda s: settle_delivery(s, delivery.id or 0, DeliveryState.PROCESSED, "", 1.0))

    HANDLERS[kind] = handler
    yield
    del HANDLERS[kind]


def new_repo(api: Api) -> int:
    name = unique("local/lane")
    return api.wiring.db.write(lambda s: add_repo(s, name, 1.0).id or 0)


def file(api: Api, kind: str, repo_id: int) -> str:
    guid = unique(kind)
    api.wiring.db.write(lambda s: receive_delivery(s, kind, guid, {}, repo_id=repo_id, sender="ada", now=1.0))
    return guid


def found(api: Api, guid: str) -> Delivery:
    delivery = api.wiring.db.read(lambda s: delivery_by_guid(s, guid))
    assert delivery is not None
    return delivery


def is_processed(api: Api, guid: str) -> bool:
    return found(api, guid).state is DeliveryState.PROCESSED


def test_a_slow_repository_keeps_no_other_waiting_and_its_own_order(api: Api) -> None:
    entered, go_on = threading.Event(), threading.Event()
    order: list[str] = []

    def slow(delivery: Delivery) -> None:
        entered.set()
        assert go_on.wait(20)
        order.append(delivery.guid)

    kind, quick = unique("slow"), unique("quick")
    with handled(kind, slow), handled(quick, lambda delivery: None):
        repo = new_repo(api)
        first, second = file(api, kind, repo), file(api, kind, repo)
        assert entered.wait(10)
        others = [file(api, quick, new_repo(api)) for _ in range(3)]
        wait_for(lambda: all(is_processed(api, guid) for guid in others))
        assert found(api, first).state is DeliveryState.RECEIVED
        go_on.set()
        wait_for(lambda: is_processed(api, first) and is_processed(api, second))
    assert order == [first, second]


def test_a_delivery_waits_for_a_disk_that_refuses(api: Api) -> None:
    tries: list[int] = []

    def refuse_twice(delivery: Delivery) -> None:
        tries.append(delivery.id or 0)
        if len(tries) < 3:
            raise Unavailable("the disk is full")

    kind = unique("refused")
    with handled(kind, refuse_twice):
        guid = file(api, kind, new_repo(api))
        wait_for(lambda: is_processed(api, guid))
    assert len(tries) == 3 and found(api, guid).tries == 0
