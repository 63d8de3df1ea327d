"""Makes users and the tokens that stand for them."""

from __future__ import annotations

from dataclasses import dataclass

from sqlmodel import Session

from dstack.errors import Conflict, Invalid, NotFound, NotSignedIn
from dstack.server.clock import Clock
from dstack.server.models import Runner, Token, User
from dstack.server.models.token import TokenKind
from dstack.server.models.user import Role
from dstack.server.store.people import (
    delete_expired_tokens,
    delete_tokens_of_user,
    digest_token,
    first_admin,
    list_users,
    token_by_value,
    user_by_id,
    user_by_name,
)
from dstack.server.store.runners import runner_by_id

ADMIN = "admin"
SIGN_IN_S = 24 * 3600
SESSION_S = 30 * 24 * 3600


@dataclass(frozen=True, slots=True)
class Caller:
    """Who a token stands for: a user, or a runner, or a registration token (neither)."""

    kind: TokenKind
    user: User | None = None
    runner: Runner | None = None

    @property
    def is_admin(self) -> bool:
        return self.user is not None and self.user.role is Role.ADMIN


def find_caller(session: Session, token: str, now: float) -> Caller:
    """Raises NotSignedIn for a token that is unknown, expired or already used."""
    row = token_by_value(session, token) if token else None
    if row is None or not is_valid(row, now):
        raise NotSignedIn("the token is unknown or has expired", "Sign in again, or ask an admin for a new token.")
    user = user_by_id(session, row.user_id) if row.user_id is not None else None
    runner = runner_by_id(session, row.runner_id) if row.runner_id is not None else None
    return Caller(row.kind, user, runner)


def is_valid(token: Token, now: float) -> bool:
    """Neither expired nor used up."""
    return token.used_at is None and (token.expires_at is None or now < token.expires_at)


def ensure_admin(session: Session, token: str | None, clock: Clock) -> str | None:
    """At start: there is an admin and `token` (from the settings) opens them. Answers a new token at first start only.

    Who was removed stays so: another admin, whatever their name, does as well.
    """
    admin = first_admin(session)
    fresh = admin is None
    if admin is None:
        admin = User(name=ADMIN, role=Role.ADMIN, created_at=clock.now())
        session.add(admin)
        session.flush()
    if token is not None:
        if len(token) < 16:
            raise Invalid("DSTACK_ADMIN_TOKEN is shorter than 16 characters", "Leave it unset to have one made.")
        if token_by_value(session, token) is None:
            _store(session, token, TokenKind.PERSONAL, admin, clock.now())
        return token if fresh else None
    return make_token(session, admin, clock) if fresh else None


def add_user(session: Session, name: str, role: str, clock: Clock) -> tuple[User, str]:
    """A new user and their first token."""
    if role not in list(Role):
        raise Invalid(f"{role!r} is not a role; expected admin or member")
    if not name or len(name) > 64 or not name.replace("-", "").replace("_", "").replace(".", "").isalnum():
        raise Invalid(f"{name!r} is not a user name", "Use letters, digits, '.', '_' and '-'.")
    if user_by_name(session, name) is not None:
        raise Conflict(f"a user called {name} exists", f"For a new token: `dstack users token {name}`.")
    user = User(name=name, role=Role(role), created_at=clock.now())
    session.add(user)
    session.flush()
    return user, make_token(session, user, clock)


def renew_token(session: Session, name: str, clock: Clock) -> tuple[User, str]:
    """A new token for a user; the old ones stop working."""
    user = _existing(session, name)
    delete_tokens_of_user(session, user.id or 0)
    return user, make_token(session, user, clock)


def remove_user(session: Session, name: str) -> None:
    user = _existing(session, name)
    if user.role is Role.ADMIN and sum(u.role is Role.ADMIN for u in list_users(session)) == 1:
        raise Conflict(f"{name} is the only admin", "Make another admin first.")
    delete_tokens_of_user(session, user.id or 0)
    session.delete(user)


def make_token(
    session: Session, user: User, clock: Clock, kind: TokenKind = TokenKind.PERSONAL, life_s: float | None = None
) -> str:
    delete_expired_tokens(session, clock.now())
    token = clock.new_token()
    _store(session, token, kind, user, clock.now(), life_s)
    return token


def redeem_sign_in(session: Session, code: str, clock: Clock) -> str:
    """A session token for a printed link, which works once, or for a personal token typed into the form."""
    row, now = token_by_value(session, code), clock.now()
    is_usable = row is not None and row.kind in (TokenKind.SIGN_IN, TokenKind.PERSONAL) and is_valid(row, now)
    if row is None or not is_usable or row.user_id is None:
        raise NotSignedIn("this token or link is not valid any more", "Print a new link: `dstack server link`.")
    if row.kind is TokenKind.SIGN_IN:
        row.used_at = now
        session.add(row)
    user = user_by_id(session, row.user_id)
    assert user is not None
    return make_token(session, user, clock, TokenKind.SESSION, SESSION_S)


def _existing(session: Session, name: str) -> User:
    user = user_by_name(session, name)
    if user is None:
        raise NotFound(f"there is no user {name}")
    return user


def _store(session: Session, token: str, kind: TokenKind, user: User, now: float, life_s: float | None = None) -> None:
    session.add(
        Token(
            digest=digest_token(token),
            kind=kind,
            user_id=user.id,
            created_at=now,
            expires_at=None if life_s is None else now + life_s,
        )
    )
    session.flush()
