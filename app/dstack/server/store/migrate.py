"""Brings a database to the schema of this version, with a copy put aside before any change.

A new one is made from the models; only one of an older version takes the migrations, and with them the library that
runs them, which a server would keep in memory for good.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Engine, inspect
from sqlmodel import SQLModel

import dstack.server.models  # noqa: F401 - registers the tables
from dstack.errors import Conflict

if TYPE_CHECKING:
    from alembic.config import Config

_FOLDER = Path(__file__).with_name("migrations")
_VERSION = "alembic_version"  # alembic's own table, with one row


def alembic_config(engine: Engine) -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    config.attributes["engine"] = engine
    return config


def migrate(engine: Engine, path: Path) -> None:
    """Make the newest schema, or upgrade to it. Raises Conflict when the database is from a newer version of the
    server."""
    known = [file.name.partition("_")[0] for file in sorted((_FOLDER / "versions").glob("*.py"))]
    newest, current = known[-1], _current(engine)
    if current == newest:
        return
    if current is None:
        _make(engine, newest)
        return
    if current not in known:
        raise Conflict(
            f"the database {path} has schema {current}, which this version does not know",
            "It was written by a newer version: install that one.",
        )
    _back_up(path, path.with_suffix(f".before-{newest}.db"))
    _upgrade(engine)


def _current(engine: Engine) -> str | None:
    """None for a database without a schema."""
    with engine.connect() as connection:
        if not inspect(connection).has_table(_VERSION):
            return None
        found: str | None = connection.exec_driver_sql(f"SELECT version_num FROM {_VERSION}").scalar()  # noqa: S608
        return found


def _make(engine: Engine, newest: str) -> None:
    """In one transaction: one that was broken off leaves nothing."""
    with engine.begin() as connection:
        SQLModel.metadata.create_all(connection, checkfirst=False)  # tables of somebody else are not ours to adopt
        connection.exec_driver_sql(f"CREATE TABLE {_VERSION} (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
        connection.exec_driver_sql(f"INSERT INTO {_VERSION} VALUES ('{newest}')")  # noqa: S608 - a name of our files


def _upgrade(engine: Engine) -> None:
    from alembic import command

    command.upgrade(alembic_config(engine), "head")


def _back_up(path: Path, copy: Path) -> None:
    with sqlite3.connect(path) as source, sqlite3.connect(copy) as target:
        source.backup(target)
