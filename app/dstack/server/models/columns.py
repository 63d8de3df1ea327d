"""Column types that several tables share."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, BigInteger, Column, Enum, Integer


def json_column(*, nullable: bool = False) -> Any:
    """A JSON column. SQLAlchemy does not see changes inside the value: assign a new one."""
    return Column(JSON, nullable=nullable)


def big_column(*, nullable: bool = False, primary_key: bool = False) -> Any:
    """A whole number that may not fit 32 bits: an id of the forge's, a count of bytes, a step. SQLite's always do."""
    kind = BigInteger().with_variant(Integer(), "sqlite")
    return Column(kind, nullable=nullable, primary_key=primary_key, autoincrement=False)


def enum_column(kind: type[StrEnum], *, nullable: bool = False, index: bool = False) -> Any:
    """An enum stored by its value as text, wide enough for later members without a migration."""
    return Column(
        Enum(kind, native_enum=False, length=32, values_callable=lambda members: [m.value for m in members]),
        nullable=nullable,
        index=index,
    )
