"""What runners and server said to each other, and whether the database, logs and artifacts at the end agree with it.

Two ledgers: `Heard` reads the bytes that went through a proxy as calls and answers; the `Ledger` lets the database
itself write down every change of a state. `check` compares both with what stands on disk and answers what is wrong.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import httptools

from dstack.server.gateways.objects_local import LocalObjects
from dstack.wire.manifest import decode_manifest

FINAL_JOBS = {"succeeded", "failed", "stopped", "skipped"}
LIVE_ATTEMPTS = {"preparing", "running", "saving"}
KEPT_BODY = 16 * 1024


@dataclass
class Said:
    """One call of a runner and the server's answer, status 0 while there was none. `delivered`: the runner got it."""

    method: str
    path: str
    body: bytes
    body_size: int
    body_digest: str
    status: int = 0
    delivered: bool = True

    @property
    def attempt(self) -> str:
        parts = self.path.split("/")
        return parts[4] if len(parts) > 4 and parts[3] == "attempts" else ""

    @property
    def verb(self) -> str:
        return self.path.partition("?")[0].split("/")[-1]


class Heard:
    """An observer for a proxy; `calls` are complete calls in the order of their answers."""

    def __init__(self) -> None:
        self.calls: list[Said] = []
        self._guard = threading.Lock()
        self._open: dict[int, tuple[_Requests, _Answers]] = {}

    def __call__(self, connection: int, way: str, data: bytes) -> None:
        with self._guard:
            if connection not in self._open:
                requests = _Requests()
                self._open[connection] = (requests, _Answers(requests, self.calls))
            requests, answers = self._open[connection]
            if way == "up":
                requests.parser.feed_data(data)
            else:
                answers.delivered = way != "lost"
                answers.parser.feed_data(data)

    def of(self, verb: str, attempt: str = "") -> list[Said]:
        with self._guard:
            return [call for call in self.calls if call.verb == verb and attempt in ("", call.attempt)]


class _Requests:
    """Calls of one connection that wait for their answer."""

    def __init__(self) -> None:
        self.parser = httptools.HttpRequestParser(self)
        self.waiting: list[Said] = []

    def on_message_begin(self) -> None:
        self._url, self._body, self._size, self._digest = b"", b"", 0, hashlib.sha256()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        self._digest.update(body)
        if len(self._body) < KEPT_BODY:
            self._body += body[:KEPT_BODY]

    def on_message_complete(self) -> None:
        method = self.parser.get_method().decode()
        self.waiting.append(Said(method, self._url.decode(), self._body, self._size, self._digest.hexdigest()))


class _Answers:
    def __init__(self, requests: _Requests, calls: list[Said]) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.delivered = True
        self._requests, self._calls = requests, calls

    def on_headers_complete(self) -> None:
        if (
            self.parser.get_status_code() >= 200 and self._requests.waiting
        ):  # else it answered before it had heard all: the call is not complete
            call = self._requests.waiting.pop(0)
            call.status, call.delivered = self.parser.get_status_code(), self.delivered
            self._calls.append(call)


class Ledger:
    """Triggers in the server's database that keep every change of state, in the order of commits."""

    TABLE = "tested_history"

    def __init__(self, data: Path) -> None:
        self._data = data

    def open(self) -> None:
        """Install the triggers; the server is idle now."""
        with self._connect() as db:
            db.execute(f"CREATE TABLE IF NOT EXISTS {self.TABLE} (kind TEXT, id TEXT, parent TEXT, state TEXT)")
            for kind, parent in (("runs", "group_id"), ("jobs", "run_id"), ("attempts", "job_id")):
                for event, when in (("INSERT", ""), ("UPDATE OF state", "WHEN old.state IS NOT new.state")):
                    trigger = f"tested_{kind}_{event.split()[0]}"
                    db.execute(
                        f"CREATE TRIGGER IF NOT EXISTS {trigger} AFTER {event} ON {kind} {when} BEGIN "
                        f"INSERT INTO {self.TABLE} VALUES ('{kind}', new.id, new.{parent}, new.state); END"
                    )

    def check(self, heard: Heard | None = None) -> list[str]:
        """Everything that is wrong, in words; every run has ended, and no server runs on the folder."""
        with self._connect() as db:
            problems = [
                *_sound(db), *_one_end(db, self.TABLE), *_one_live_attempt(db, self.TABLE), *_deliveries(db),
                *_slots(db), *_logs(db, self._data), *_artifacts(db, self._data),
            ]  # fmt: skip
            if heard is not None:
                problems += [*_acknowledged_logs(db, heard, self._data), *_finishes(db, heard)]
        return problems

    def rows(self, query: str, *values: object) -> list[sqlite3.Row]:
        """For a test's own questions."""
        with self._connect() as db:
            return db.execute(query, values).fetchall()

    def _connect(self) -> _Closing:
        return _Closing(self._data / "dstack.db")


class _Closing:
    """A connection that commits and closes at the end of its block."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> sqlite3.Connection:
        self._db = sqlite3.connect(self._path, timeout=10)
        self._db.row_factory = sqlite3.Row
        return self._db

    def __exit__(self, *error: object) -> None:
        self._db.commit()
        self._db.close()


def _sound(db: sqlite3.Connection) -> Iterator[str]:
    """I12."""
    if (verdict := db.execute("PRAGMA integrity_check").fetchone()[0]) != "ok":
        yield f"integrity_check: {verdict}"
    for row in db.execute("PRAGMA foreign_key_check"):
        yield f"foreign key: {tuple(row)}"


def _one_end(db: sqlite3.Connection, table: str) -> Iterator[str]:
    """I2: every job and run reached one final state and never left it."""
    paths: dict[tuple[str, str], list[str]] = defaultdict(list)
    for row in db.execute(f"SELECT kind, id, state FROM {table} ORDER BY rowid"):
        paths[row["kind"], row["id"]].append(row["state"])
    for (kind, name), path in paths.items():
        final = FINAL_JOBS if kind != "attempts" else {"succeeded", "failed", "stopped", "lost", "preempted"}
        ends = [state for state in path if state in final]
        if len(ends) != 1 or path[-1] not in final:
            yield f"{kind} {name} went {' '.join(path)}"


def _one_live_attempt(db: sqlite3.Connection, table: str) -> Iterator[str]:
    """I3: a job has one live attempt at most, and one that succeeded at most."""
    live: dict[str, set[str]] = defaultdict(set)
    won: dict[str, set[str]] = defaultdict(set)
    for row in db.execute(f"SELECT id, parent, state FROM {table} WHERE kind = 'attempts' ORDER BY rowid"):
        mine = live[row["parent"]]
        mine.add(row["id"]) if row["state"] in LIVE_ATTEMPTS else mine.discard(row["id"])
        if row["state"] == "succeeded":
            won[row["parent"]].add(row["id"])
        if len(mine) > 1:
            yield f"job {row['parent']} has the live attempts {sorted(mine)} at once"
    for job, attempts in won.items():
        if len(attempts) > 1:
            yield f"job {job} succeeded in {sorted(attempts)}"


def _deliveries(db: sqlite3.Connection) -> Iterator[str]:
    """I1."""
    for row in db.execute("SELECT id, kind, state, reason FROM deliveries"):
        if row["state"] == "received" or (row["state"] in ("ignored", "failed") and not row["reason"]):
            yield f"delivery {row['id']} ({row['kind']}) is {row['state']}: {row['reason']!r}"


def _slots(db: sqlite3.Connection) -> Iterator[str]:
    """I8: at no time more leases of a runner than it has slots."""
    slots = {row["id"]: json.loads(row["capacity"])["slots"] for row in db.execute("SELECT id, capacity FROM runners")}
    changes: dict[int, list[tuple[float, int]]] = defaultdict(list)
    for row in db.execute("SELECT runner_id, accepted_at, finished_at FROM attempts"):
        changes[row["runner_id"]] += [(row["accepted_at"], 1), (row["finished_at"] or float("inf"), -1)]
    for runner, moments in changes.items():
        held = most = 0
        for _, change in sorted(moments):
            held += change
            most = max(most, held)
        if most > slots[runner]:
            yield f"runner {runner} held {most} leases with {slots[runner]} slots"


def log_of(data: Path, attempt: str) -> bytes:
    """A stored log, empty where there is none."""
    path = data / "logs" / attempt[-2:] / f"{attempt}.log"
    return path.read_bytes() if path.exists() else b""


def _logs(db: sqlite3.Connection, data: Path) -> Iterator[str]:
    """I5: what an attempt said it wrote is what is stored."""
    for row in db.execute("SELECT id, log_bytes FROM attempts WHERE state IN ('succeeded', 'failed', 'stopped')"):
        stored = len(log_of(data, row["id"]))
        if row["log_bytes"] is not None and row["log_bytes"] != stored:
            yield f"attempt {row['id']} wrote {row['log_bytes']} bytes of log, {stored} are stored"


def _acknowledged_logs(db: sqlite3.Connection, heard: Heard, data: Path) -> Iterator[str]:
    """I5: every piece of a log that was acknowledged stands at its offset, unless its run was pruned."""
    kept = {row["id"] for row in db.execute("SELECT id FROM attempts")}
    for call in heard.of("log"):
        if call.attempt in kept and call.method == "PUT" and 200 <= call.status < 300:
            offset = int(call.path.partition("offset=")[2])
            piece = log_of(data, call.attempt)[offset : offset + call.body_size]
            if hashlib.sha256(piece).hexdigest() != call.body_digest:
                yield f"attempt {call.attempt}: {call.body_size} acknowledged bytes at {offset} are not stored"


def _finishes(db: sqlite3.Connection, heard: Heard) -> Iterator[str]:
    """I2, I3: an end that was acknowledged is the end that stands."""
    states = {row["id"]: row["state"] for row in db.execute("SELECT id, state FROM attempts")}
    for call in heard.of("finish"):
        is_kept = call.attempt in states
        if is_kept and 200 <= call.status < 300 and json.loads(call.body)["state"] != states[call.attempt]:
            told = json.loads(call.body)["state"]
            yield f"attempt {call.attempt} was acknowledged as {told} and is {states[call.attempt]}"


def _artifacts(db: sqlite3.Connection, data: Path) -> Iterator[str]:
    """I6: a visible artifact is whole, byte by byte."""
    with closing(LocalObjects(data / "objects")) as objects:
        yield from _whole(db, objects)


def _whole(db: sqlite3.Connection, objects: LocalObjects) -> Iterator[str]:
    for row in db.execute("SELECT id, path, digest, bytes, files FROM artifacts"):
        name = f"artifact {row['id']} ({row['path']})"
        if objects.missing([row["digest"]]):
            yield f"{name}: its manifest is not stored"
            continue
        manifest = decode_manifest(b"".join(objects.read(row["digest"])))
        if (manifest.digest, manifest.size, len(manifest.files)) != (row["digest"], row["bytes"], row["files"]):
            yield f"{name}: its row and its manifest differ"
        for entry in manifest.files:
            if entry.target is None:
                found = hashlib.sha256()
                for piece in objects.read(entry.digest):
                    found.update(piece)
                if found.hexdigest() != entry.digest:
                    yield f"{name}: the bytes of {entry.path} are not those of its digest"
