"""Runs migrations on the engine that `store.migrate` hands over."""

from typing import Any, Literal

import sqlalchemy as sa
import sqlmodel
from alembic import context

import dstack.server.models  # noqa: F401 - registers the tables


def render_type(kind: str, item: Any, _context: object) -> str | Literal[False]:
    """Enums and SQLModel's strings are plain text to the database: a later member needs no migration."""
    if kind == "type" and isinstance(item, sa.String | sqlmodel.AutoString):
        return f"sa.String(length={item.length})" if item.length else "sa.String()"
    return False


engine = context.config.attributes["engine"]
with engine.connect() as connection:
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
    connection.commit()
