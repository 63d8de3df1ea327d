"""A secret of a repo, encrypted: the value is never stored, logged or shown in clear."""

from __future__ import annotations

from sqlmodel import Field, SQLModel


class Secret(SQLModel, table=True):
    """`sealed` is nonce and ciphertext, bound to (repo, name) so that rows cannot be swapped;
    `key_id` names the key."""

    __tablename__ = "secrets"

    repo_id: int = Field(foreign_key="repos.id", primary_key=True)
    name: str = Field(primary_key=True)
    sealed: bytes
    key_id: str
    updated_at: float
    updated_by: str
