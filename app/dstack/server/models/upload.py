"""Which blobs an untrusted attempt has proved to hold."""

from __future__ import annotations

from sqlmodel import Field, SQLModel


class Upload(SQLModel, table=True):
    """An untrusted attempt may put only such blobs into an artifact as it sent itself, or was given as an input."""

    __tablename__ = "uploads"

    attempt_id: str = Field(foreign_key="attempts.id", primary_key=True)
    digest: str = Field(primary_key=True)
