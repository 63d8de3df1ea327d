"""Brings a database to the schema of this version, with a copy put aside before any change."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine

from dstack.errors import Conflict

_FOLDER = Path(__file__).with_name("migrations")


def alembic_config(engine: Engine) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    config.attributes["engine"] = engine
    return config


def migrate(engine: Engine, path: Path) -> None:
    """Upgrade to the newest schema. Raises Conflict when the database is from a newer version of the server."""
    config = alembic_config(engine)
    script = ScriptDirectory.from_config(config)
    with engine.connect() as connection:
        current = MigrationContext.configure(connection).get_current_revision()
    newest = script.get_current_head()
    if current == newest:
        return
    if current is not None and current not in {revision.revision for revision in script.walk_revisions()}:
        raise Conflict(
            f"the database {path} has schema {current}, which this version does not know",
            "It was written by a newer version: install that one.",
        )
    if current is not None:
        _back_up(path, path.with_suffix(f".before-{newest}.db"))
    command.upgrade(config, "head")


def _back_up(path: Path, copy: Path) -> None:
    with sqlite3.connect(path) as source, sqlite3.connect(copy) as target:
        source.backup(target)
