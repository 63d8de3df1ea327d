"""Runs migrations on the engine that `store.migrate` hands over."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import sqlalchemy as sa
import sqlmodel
from alembic import context

import dstack.server.models  # noqa: F401 - registers the tables
from dstack.errors import Conflict


def render_type(kind: str, item: Any, _context: object) -> str | Literal[False]:
    """Enums and SQLModel's strings are plain text to the database: a later member needs no migration."""
    if kind == "type" and isinstance(item, sa.String | sqlmodel.AutoString):
        return f"sa.String(length={item.length})" if item.length else "sa.String()"
    return False


@contextmanager
def without_foreign_keys(connection: sa.Connection) -> Iterator[None]:
    """A table may be made anew under its name, which means to drop it while others refer to it. SQLite takes the switch
    outside of transactions only; others change tables in place."""
    if connection.dialect.name != "sqlite":
        yield
        return
    raw: Any = connection.connection.dbapi_connection
    (before,) = raw.execute("PRAGMA foreign_keys").fetchone()
    raw.execute("PRAGMA foreign_keys=OFF")
    try:
        yield
    finally:
        raw.execute(f"PRAGMA foreign_keys={before}")


def check_foreign_keys(connection: sa.Connection) -> None:
    """Raises Conflict for a row that refers to nothing: the migration is taken back then. Others than SQLite never stop
    to check."""
    if connection.dialect.name != "sqlite":
        return
    if broken := connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall():
        tables = ", ".join(sorted({f"{table} -> {parent}" for table, _, parent, _ in broken}))
        raise Conflict(
            f"the database was left as it was: {len(broken)} rows refer to nothing ({tables})",
            "The version that wrote it still runs with it; tell us of this.",
        )


engine = context.config.attributes["engine"]
with engine.connect() as connection, without_foreign_keys(connection):
    context.configure(
        connection=connection,
        target_metadata=sqlmodel.SQLModel.metadata,
        render_as_batch=True,
        transactional_ddl=True,
        compare_type=True,
        render_item=render_type,
    )
    with context.begin_transaction():
        context.run_migrations()
        check_foreign_keys(connection)
    connection.commit()
