"""The one writer: what units share, and what may never happen to it, whoever goes away or fails beside it."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlmodel import Session

from dstack.errors import Conflict, Unavailable
from dstack.server.models import Repo
from dstack.server.store.repos import list_repos
from dstack.server.wiring import Wiring


def add(name: str) -> Any:
    def unit(session: Session) -> str:
        session.add(Repo(owner="o", name=name, created_at=1.0))
        session.flush()
        return name

    return unit


def names(wiring: Wiring) -> set[str]:
    return {repo.name for repo in wiring.db.read(list_repos)}


class Gate:
    """A unit that holds the writer, so that the units after it come together."""

    def __init__(self, wiring: Wiring) -> None:
        self._entered, self._open = threading.Event(), threading.Event()
        self._held = wiring.db.submit(self._wait)
        assert self._entered.wait(10)

    def _wait(self, session: Session) -> None:
        self._entered.set()
        assert self._open.wait(10)

    def open(self) -> None:
        self._open.set()
        self._held.result(10)


def together(wiring: Wiring, *units: Any) -> list[Future[Any]]:
    gate = Gate(wiring)
    futures = [wiring.db.submit(unit) for unit in units]
    gate.open()
    for future in futures:
        future.exception(10)
    return futures


def test_a_caller_that_goes_away_does_not_take_the_writer_along(wiring: Wiring) -> None:
    async def go_away() -> None:
        asking = asyncio.create_task(wiring.db.write_async(add("never")))
        await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

    gate = Gate(wiring)
    asyncio.run(go_away())
    gate.open()
    assert wiring.db.submit(add("after")).result(10) == "after"
    assert names(wiring) == {"after"}


def test_a_caller_that_goes_away_while_its_unit_runs_changes_nothing(wiring: Wiring) -> None:
    entered, go_on = threading.Event(), threading.Event()

    def slow(session: Session) -> None:
        entered.set()
        assert go_on.wait(10)
        add("slow")(session)

    future = wiring.db.submit(slow)
    assert entered.wait(10)
    assert not future.cancel()
    go_on.set()
    future.result(10)
    assert names(wiring) == {"slow"}


def test_a_unit_that_fails_takes_back_its_own_writes_alone(wiring: Wiring) -> None:
    def fails(session: Session) -> None:
        add("half")(session)
        raise Conflict("no")

    first, failed, last = together(wiring, add("first"), fails, add("last"))
    assert first.result() == "first" and last.result() == "last"
    assert isinstance(failed.exception(), Conflict)
    assert names(wiring) == {"first", "last"}


def test_nobody_is_told_of_a_success_that_went_with_the_transaction(wiring: Wiring) -> None:
    """A full disk makes SQLite roll back everything; played by a unit that does it."""

    def disk_full(session: Session) -> None:
        session.connection().exec_driver_sql("ROLLBACK")
        raise OperationalError("INSERT", {}, Exception("database or disk is full"))

    futures = together(wiring, add("first"), disk_full, add("last"))
    assert all(isinstance(future.exception(), Unavailable) for future in futures)
    assert names(wiring) == set()
    assert wiring.db.write(add("later")) == "later"


def test_a_closed_database_answers_everybody(wiring: Wiring, tmp_path: Path) -> None:
    pending = wiring.db.submit(add("last"))
    wiring.db.close()
    assert pending.result(10) == "last"
    with pytest.raises(Unavailable):
        wiring.db.submit(lambda session: session.connection().execute(text("SELECT 1")))
