"""A bearer token: only its digest is stored."""

from __future__ import annotations

from enum import StrEnum

from sqlmodel import Field, SQLModel

from dstack.server.models.columns import enum_column


class TokenKind(StrEnum):
    PERSONAL = "personal"  # a user's, for CLI and Git
    SESSION = "session"  # a browser's
    SIGN_IN = "sign_in"  # the printed link: opens one session, once
    REGISTRATION = "registration"  # lets runners introduce themselves
    RUNNER = "runner"  # one runner's own


class Token(SQLModel, table=True):
    """Tokens are 256 random bits, so a plain SHA-256 is enough: there is nothing to guess."""

    __tablename__ = "tokens"

    digest: str = Field(primary_key=True)
    kind: TokenKind = Field(sa_column=enum_column(TokenKind))
    user_id: int | None = Field(default=None, foreign_key="users.id", index=True)
    runner_id: int | None = Field(default=None, foreign_key="runners.id", index=True)
    created_at: float
    expires_at: float | None = None
    used_at: float | None = None
