"""The database: one writer thread that runs whole units of work, readers with their own pool, the settings of SQLite.

A unit is a function of a session that loads, decides and writes; it runs alone, commits once, and wakes the topics it
named. No git, HTTP or blob work happens inside. Units that wait together share one commit (each in a savepoint), so
the disk is synced once for all of them.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.exc import OperationalError
from sqlmodel import Session

from dstack.errors import Unavailable
from dstack.server.bus import Bus
from dstack.server.failpoints import reach

T = TypeVar("T")
Unit = Callable[[Session], T]

log = logging.getLogger(__name__)
_TOGETHER = 32  # units in one commit at most
_TOPICS = "topics"


def wake(session: Session, *topics: str) -> None:
    """Publish these topics once the unit has been committed."""
    session.info.setdefault(_TOPICS, []).extend(topics)


class Database:
    """`write` and `read` may be called from any thread; `write_async` and `read_async` from the event loop."""

    def __init__(self, path: Path, bus: Bus) -> None:
        self.path = path
        self._bus = bus
        self._writer = _engine(path, read_only=False)
        self._readers = _engine(path, read_only=True)
        self._units: queue.SimpleQueue[tuple[Unit[Any], Future[Any]] | None] = queue.SimpleQueue()
        self._closed = False
        self._closing = threading.Lock()
        self._thread = threading.Thread(target=self._write_loop, name="dstack-writer", daemon=True)
        self._thread.start()

    @property
    def engine(self) -> Engine:
        """For migrations at start, before anything else writes."""
        return self._writer

    def submit(self, unit: Unit[T]) -> Future[T]:
        """Queue a unit. A future cancelled before its unit begins takes the unit with it; later it is too late."""
        future: Future[T] = Future()
        with self._closing:  # a unit put behind the end would never be answered
            if self._closed:
                raise Unavailable("the server is stopping")
            self._units.put((unit, future))
        return future

    def write(self, unit: Unit[T]) -> T:
        """Run a unit of work and return what it returned, after its commit. Its exception rolls it back alone."""
        return self.submit(unit).result()

    async def write_async(self, unit: Unit[T]) -> T:
        return await asyncio.wrap_future(self.submit(unit))

    def read(self, query: Unit[T]) -> T:
        """Run a query on a consistent snapshot. What it returns stays readable afterwards."""
        with Session(self._readers, expire_on_commit=False) as session:
            return query(session)

    async def read_async(self, query: Unit[T]) -> T:
        return await asyncio.to_thread(self.read, query)

    def close(self) -> None:
        """Finish the units already submitted, then close."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
            self._units.put(None)
        self._thread.join()
        self._readers.dispose()
        self._writer.dispose()  # the last connection to close checkpoints and removes the WAL

    def _write_loop(self) -> None:
        stopping = False
        while not stopping:
            batch = []
            item = self._units.get()
            while item is not None:
                batch.append(item)
                if len(batch) == _TOGETHER or self._units.empty():
                    break
                item = self._units.get()
            stopping = item is None
            # From here on a caller that goes away cannot cancel: the answer of a unit that runs always has a taker.
            batch = [(unit, future) for unit, future in batch if future.set_running_or_notify_cancel()]
            if batch:
                self._run_together(batch)

    def _run_together(self, batch: Sequence[tuple[Unit[Any], Future[Any]]]) -> None:
        done: list[tuple[Future[Any], Any]] = []
        topics: list[str] = []
        try:
            with Session(self._writer, expire_on_commit=False) as session:
                for unit, future in batch:
                    session.info[_TOPICS] = []
                    try:
                        result = self._run_one(session, unit, alone=len(batch) == 1)
                    except BaseException as error:  # noqa: BLE001 - handed to the caller, whatever it is
                        if len(batch) > 1:
                            _check_goes_on(session, error)
                        future.set_exception(_translate(error))
                    else:
                        done.append((future, result))
                        topics.extend(session.info[_TOPICS])
                reach("commit-before")
                session.commit()
        except BaseException as error:
            log.exception("a commit failed", extra={"action": "commit"})
            for _, future in batch:
                if not future.done():
                    future.set_exception(_translate(error))
            return
        for future, result in done:
            future.set_result(result)
        self._bus.publish(dict.fromkeys(topics))

    @staticmethod
    def _run_one(session: Session, unit: Unit[T], *, alone: bool) -> T:
        if alone:
            try:
                return unit(session)
            except BaseException:
                session.rollback()
                raise
        with session.begin_nested():
            return unit(session)


def _check_goes_on(session: Session, error: BaseException) -> None:
    """A disk that refuses may make SQLite give up the whole transaction, not the one statement: what the units before
    have written is gone with it, and nobody may be told otherwise. Raises Unavailable for all of them then."""
    raw = session.connection().connection.dbapi_connection
    if not isinstance(raw, sqlite3.Connection) or not raw.in_transaction:
        raise Unavailable("the database gave up a transaction", "Check the disk of the data folder.") from error


def _translate(error: BaseException) -> BaseException:
    if isinstance(error, OperationalError):
        cause = str(error.orig)
        if "locked" in cause:
            return Unavailable("the database is locked by another process", "Try again in a moment.")
        if "full" in cause or "readonly" in cause or "disk I/O" in cause:
            return Unavailable(f"the database cannot be written: {cause}", "Check the disk of the data folder.")
    return error


def _engine(path: Path, *, read_only: bool) -> Engine:
    engine = create_engine(
        f"sqlite:///{path}",
        # Lists of ids make statements that differ in length: each connection would keep 128 of them, many of 20 KB.
        connect_args={"check_same_thread": False, "timeout": 5.0, "cached_statements": 64 if not read_only else 16},
        # Each reader keeps about 0.8 MB of pages and statements: few stay open, more only while they are in use.
        pool_size=1 if not read_only else 4,
        max_overflow=0 if not read_only else 36,
        pool_use_lifo=True,  # the warm ones first, not all of them in turn
    )

    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _record: object) -> None:
        # The driver's own transaction handling would begin too late and break savepoints; BEGIN is sent below.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute("PRAGMA busy_timeout=5000")
        if read_only:
            # Only the writer checkpoints: SQLite before 3.51.3 can corrupt a WAL that two connections reset at once.
            cursor.execute("PRAGMA wal_autocheckpoint=0")
            cursor.execute("PRAGMA query_only=ON")
            cursor.execute("PRAGMA cache_size=-256")  # KiB each: the pages are in the machine's own cache anyway
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    return engine
