"""A data folder whose database has the newest schema already: what a first start makes, made once a process.

That a first start makes it from nothing is held by the tests of migrations and by those that start the real command."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

from dstack.server.bus import Bus
from dstack.server.store.database import Database
from dstack.server.store.migrate import migrate


@functools.cache
def _empty_database() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        db = Database(Path(folder) / "dstack.db", Bus())
        try:
            migrate(db.engine, db.path)
        finally:
            db.close()  # which leaves one file, with nothing beside it
        return db.path.read_bytes()


def ready(data: Path) -> Path:
    """The folder itself; a database that is there stays."""
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = data / "dstack.db"
    if not path.exists():
        path.write_bytes(_empty_database())
    return data
