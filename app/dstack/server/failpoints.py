"""Named points where a test may end this process as a power cut would: `DSTACK_FAILPOINTS="name=kill;other=kill@3"`.

The points stand at the borders of what must survive: around commits and before answers. Unset, a point costs one
dictionary look-up. `kill@N` fires at the Nth time the point is reached.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Mapping

from dstack.errors import Usage

POINTS = (
    "push-before-delivery",  # git has moved the ref, no row says so
    "commit-before",  # the units of a commit have run, nothing is on disk
    "delivery-committed",  # the delivery is stored, its sender has no answer
    "offer-before-reply",  # an offer is made, the runner has not heard of it
    "accept-before-reply",  # an attempt lives, its runner has no order
    "artifact-before-reply",  # an artifact is visible, its runner does not know
    "forge-told",  # the forge has it, no row says so
    "finish-before-reply",  # an attempt has ended, its runner does not know
)


class Failpoints:
    """How often each armed point was reached, and when it fires."""

    def __init__(self, armed: Mapping[str, int]) -> None:
        self._left = dict(armed)
        self._lock = threading.Lock()

    def reach(self, name: str) -> None:
        """Kill this process if the point is armed and its time has come."""
        if name not in self._left:
            return
        with self._lock:
            self._left[name] -= 1
            if self._left[name] == 0:
                os.kill(os.getpid(), signal.SIGKILL)


def parse_failpoints(text: str) -> dict[str, int]:
    """Point -> at which time it fires. Raises Usage for a word that is no point or no action."""
    armed = {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        name, _, action = part.partition("=")
        verb, _, count = action.partition("@")
        if name not in POINTS or verb != "kill" or not (count or "1").isdecimal() or int(count or "1") < 1:
            raise Usage(f"DSTACK_FAILPOINTS: cannot read {part!r}", f"write NAME=kill[@N]; NAME: {', '.join(POINTS)}")
        armed[name] = int(count or "1")
    return armed


_process = Failpoints(parse_failpoints(os.environ.get("DSTACK_FAILPOINTS", "")))
reach = _process.reach
