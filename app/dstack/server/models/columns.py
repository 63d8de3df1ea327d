"""Column types that several tables share."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, Column, Enum


def json_column(*, nullable: bool = False) -> Any:
    """A JSON column. SQLAlchemy does not see changes inside the value: assign a new one."""
    return Column(JSON, nullable=nullable)


def enum_column(kind: type[StrEnum], *, nullable: bool = False, index: bool = False) -> Any:
    """An enum stored by its value as text, wide enough for later members without a migration."""
    return Column(
        Enum(kind, native_enum=False, length=32, values_callable=lambda members: [m.value for m in members]),
        nullable=nullable,
        index=index,
    )
