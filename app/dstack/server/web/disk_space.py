"""Refuses new work while the data folder's disk is nearly full: what runs already still has room to end well."""

from __future__ import annotations

import shutil

from dstack.errors import Unavailable
from dstack.server.decide.disk import why_too_full
from dstack.server.wiring import Wiring


def disk_problem(wiring: Wiring) -> str:
    """Why new work is refused now; empty while there is room."""
    usage = shutil.disk_usage(wiring.settings.data)
    return why_too_full(usage.total - usage.free, usage.total, wiring.settings.max_disk_percent)


def check_disk(wiring: Wiring) -> None:
    """Raises Unavailable."""
    if problem := disk_problem(wiring):
        raise Unavailable(problem, "Or raise DSTACK_MAX_DISK_PERCENT.")
