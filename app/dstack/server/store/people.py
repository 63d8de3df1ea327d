"""Users and tokens."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from sqlmodel import Session, col, delete, select

from dstack.server.models import Token, User
from dstack.server.models.token import TokenKind
from dstack.server.models.user import Role


def digest_token(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def token_by_value(session: Session, token: str) -> Token | None:
    return session.get(Token, digest_token(token))


def user_by_name(session: Session, name: str) -> User | None:
    return session.exec(select(User).where(User.name == name)).first()


def first_admin(session: Session) -> User | None:
    """The admin who was there first."""
    return session.exec(select(User).where(User.role == Role.ADMIN).order_by(col(User.id))).first()


def user_by_id(session: Session, user_id: int) -> User | None:
    return session.get(User, user_id)


def list_users(session: Session) -> Sequence[User]:
    return session.exec(select(User).order_by(col(User.name))).all()


def delete_tokens_of_user(session: Session, user_id: int, kind: TokenKind | None = None) -> None:
    query = delete(Token).where(col(Token.user_id) == user_id)
    session.exec(query if kind is None else query.where(col(Token.kind) == kind))


def delete_tokens_of_runner(session: Session, runner_id: int) -> None:
    session.exec(delete(Token).where(col(Token.runner_id) == runner_id))


def delete_expired_tokens(session: Session, now: float) -> None:
    session.exec(delete(Token).where(col(Token.expires_at) < now))
