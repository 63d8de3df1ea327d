"""Who a caller is and what it may do: App JWTs, installation tokens, permissions, and repositories that moved."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping

import jwt

from fake_github.permissions import covers
from fake_github.routing import Caller, NotFound, Refusal, Route
from fake_github.state import App, Repo, Token
from fake_github.world import World


class Moved(Exception):
    """The repository has another name now."""

    def __init__(self, repo: Repo) -> None:
        super().__init__(repo.full_name)
        self.repo = repo


def identify(world: World, headers: Mapping[str, str]) -> Caller:
    """The caller of a REST request. Raises Refusal 401 for what is not valid (any more)."""
    scheme, _, value = headers.get("authorization", "").partition(" ")
    value = value.strip()
    if not value:
        return Caller()
    if scheme.lower() not in ("bearer", "token"):
        raise Refusal(401, "Bad credentials")
    if value.count(".") == 2:
        return Caller(app=_app_of(world, value))
    return _of_token(world, value)


def identify_git(world: World, headers: Mapping[str, str]) -> Caller:
    """The caller of a Git request: a token as the password of Basic, whatever the user name."""
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return Caller()
    try:
        user, _, password = base64.b64decode(value.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise Refusal(401, "Bad credentials") from None
    return _of_token(world, password or user)


def _of_token(world: World, value: str) -> Caller:
    token = world.tokens.get(value)
    if token is None or token.revoked or token.expires_at <= world.clock():
        raise Refusal(401, "Bad credentials")
    if token.installation is None:
        return Caller(account=token.account, token=token)
    if token.installation.gone:
        raise Refusal(401, "Bad credentials")
    if token.installation.suspended_at is not None:
        raise Refusal(403, "This installation has been suspended")
    return Caller(installation=token.installation, token=token)


def _app_of(world: World, value: str) -> App:
    """The App that signed a JWT. Its times are held against the fake's clock, as strictly as GitHub does."""
    try:
        claims = jwt.decode(value, options={"verify_signature": False})
        app = world.apps[int(claims["iss"])] if str(claims["iss"]).isdigit() else _by_client_id(world, claims["iss"])
        jwt.decode(value, app.public_key, algorithms=["RS256"],
                   options={"verify_exp": False, "verify_iat": False, "verify_nbf": False})  # fmt: skip
        issued, expires = int(claims["iat"]), int(claims["exp"])
    except (jwt.PyJWTError, KeyError, ValueError, TypeError):
        raise Refusal(401, "A JSON web token could not be decoded") from None
    now = world.clock()
    if expires <= now:
        raise Refusal(401, "'Expiration time' claim ('exp') must be a numeric value representing the future time at "
                           "which the assertion expires")  # fmt: skip
    if expires > now + 600:
        raise Refusal(401, "'Expiration time' claim ('exp') is too far in the future")
    if issued > now + 1:
        raise Refusal(401, "'Issued at' claim ('iat') must be an Integer representing the time that the assertion "
                           "was issued")  # fmt: skip
    return app


def _by_client_id(world: World, client_id: str) -> App:
    return next(app for app in [*world.apps.values(), None] if app is None or app.client_id == client_id) or _none()


def _none() -> App:
    raise KeyError("no such client id")


def admit(route: Route, caller: Caller) -> None:
    """May this kind of caller use the operation at all? Raises Refusal."""
    if route.who == "any":
        return
    if route.who == "app":
        if caller.app is None:
            raise Refusal(401, "A JSON web token could not be decoded")
        return
    if caller.app is not None:
        raise Refusal(403, "Resource not accessible by integration")
    if caller.installation is None and caller.account is None:
        raise Refusal(401, "Requires authentication")
    if route.who == "installation" and caller.installation is None:
        raise Refusal(403, "You must authenticate with an installation access token in order to list repositories "
                           "for an installation.")  # fmt: skip


def open_repo(world: World, caller: Caller, full_name: str, needs: tuple[str, ...]) -> Repo:
    """The repository, when the caller may do one of `needs` there. Raises Moved, NotFound, Refusal 403."""
    repo = world.find_repo(full_name)
    if repo is None:
        moved = world.moved_repo(full_name)
        if moved is None or not _sees(world, caller, moved):
            raise NotFound
        raise Moved(moved)
    if not _sees(world, caller, repo):
        raise NotFound
    if needs and not any(may(world, caller, repo, wanted) for wanted in needs):
        raise Refusal(403, "Resource not accessible by integration" if caller.installation else
                      "Must have admin rights to Repository.")  # fmt: skip
    return repo


def _sees(world: World, caller: Caller, repo: Repo) -> bool:
    if not repo.private:
        return True
    if caller.app is not None:
        return True  # asks only for its installation
    if caller.token is not None and caller.installation is not None:
        return world.reaches(caller.installation, repo) and _within(caller.token, repo)
    return caller.account is not None and world.permission(repo, caller.account.login)[0] != "none"


def may(world: World, caller: Caller, repo: Repo, wanted: str) -> bool:
    """Is `wanted` (`statuses:write`) allowed on this repository? What is public may be read by anybody."""
    if not repo.private and wanted.endswith(":read"):
        return True
    if caller.installation is not None and caller.token is not None:
        mine = world.reaches(caller.installation, repo) and _within(caller.token, repo)
        return mine and covers(caller.token.permissions, wanted)
    if caller.account is None:
        return False
    level = world.permission(repo, caller.account.login)[0]
    # Checks are written by Apps alone.
    return not wanted.startswith("checks:w") and (wanted.endswith(":read") or level in ("write", "admin"))


def _within(token: Token, repo: Repo) -> bool:
    return token.repo_ids is None or repo.id in token.repo_ids
