"""A person or script that may use the server."""

from __future__ import annotations

from enum import StrEnum

from sqlmodel import Field, SQLModel

from dstack.server.models.columns import enum_column


class Role(StrEnum):
    """`admin` also manages users, runners, repos and pruning."""

    ADMIN = "admin"
    MEMBER = "member"


class User(SQLModel, table=True):
    __tablename__ = "users"

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True)
    role: Role = Field(sa_column=enum_column(Role))
    created_at: float
