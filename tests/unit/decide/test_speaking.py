"""Who speaks for a workflow at a commit, as a table."""

from __future__ import annotations

from itertools import permutations

import pytest

from dstack.server.decide.speaking import Aim, Voice, is_moot, who_speaks

MAIN, DEV = (7, "main"), (8, "dev")


def push(number: int, *, gave_way: bool = False) -> Voice:
    return Voice(number, gave_way=gave_way)


def pull(number: int, aim: Aim = MAIN, *, gave_way: bool = False, trusted: bool = True) -> Voice:
    return Voice(number, trusted, gave_way, aim)


@pytest.mark.parametrize(
    ("voices", "aims", "speaks"),
    [
        ([], [], ()),
        ([push(1), push(2)], [], (2,)),  # a retry
        ([push(1), pull(2)], [MAIN], (2,)),
        ([pull(1), push(2)], [MAIN], (1,)),  # whichever came first
        ([pull(1), push(2), push(3)], [MAIN], (1,)),  # whoever presses re-run at the push's
        ([pull(1), pull(2), push(3)], [MAIN], (2,)),
        ([pull(1), push(2)], [], (2,)),  # it was closed
        ([push(1), pull(2, gave_way=True)], [], (1,)),  # closed or merged while the push's goes on
        ([push(1), pull(2, gave_way=True)], [MAIN], (1,)),  # to the push's, in one group: it ran the same commit
        ([pull(1, gave_way=True), push(2)], [MAIN], (2,)),
        ([push(1, gave_way=True), pull(2, gave_way=True)], [MAIN], (2,)),
        ([pull(1, DEV), pull(2, gave_way=True)], [MAIN], (2,)),  # judged against another base, and closed
        ([push(1), pull(2, gave_way=True), pull(3, DEV)], [MAIN, DEV], (3,)),
        ([push(1), pull(2, (7, "old"))], [MAIN], (2,)),  # it goes elsewhere now, and has no run there yet
        ([pull(1), pull(2, DEV)], [MAIN, DEV], (1, 2)),  # two pull requests of one head
        ([pull(1), pull(2, DEV)], [MAIN], (1,)),  # and one of them closed
        ([pull(1), pull(2, DEV, gave_way=True)], [MAIN], (1,)),
        ([push(1)], [MAIN], (1,)),  # its own run is not made yet, or not needed
        ([push(1, gave_way=True)], [], (1,)),  # nobody else says anything
        ([push(1), push(2, gave_way=True)], [], (1,)),
        ([push(1), pull(2, trusted=False)], [MAIN], (1,)),  # a stranger's, of what was pushed here
        ([push(1, gave_way=True), pull(2, trusted=False)], [MAIN], (1,)),
        ([pull(1, trusted=False), pull(2, DEV, trusted=False)], [MAIN, DEV], (1, 2)),
    ],
)  # fmt: skip
def test_who_speaks(voices: list[Voice], aims: list[Aim], speaks: tuple[int, ...]) -> None:
    assert who_speaks(voices, aims) == speaks


def test_what_gave_way_is_moot_once_its_pull_request_goes_elsewhere() -> None:
    assert is_moot(pull(1, gave_way=True), [DEV])
    assert not is_moot(pull(1, gave_way=True), [MAIN])
    assert not is_moot(pull(1), [DEV])
    assert not is_moot(push(1, gave_way=True), [])


def test_no_order_of_making_lets_a_push_speak_over_the_pull_request() -> None:
    for ids in permutations(range(1, 5)):
        voices = [push(ids[0]), push(ids[1]), pull(ids[2]), pull(ids[3])]
        told = who_speaks(sorted(voices, key=lambda voice: voice.id), [MAIN])
        assert told == (max(ids[2], ids[3]),)
