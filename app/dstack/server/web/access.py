"""Who calls, and what they may do. Every operation names its audience; nothing is open by omission."""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Callable
from enum import Enum

from starlette.requests import Request

from dstack.errors import NotAllowed, NotSignedIn, TooMany, UnsupportedVersion
from dstack.server.models import Runner
from dstack.server.models.token import TokenKind
from dstack.server.services.manage_users import Caller, find_caller
from dstack.server.wiring import Wiring
from dstack.wire.runner import PROTOCOL, PROTOCOL_HEADER


class Audience(Enum):
    """Who may call an operation."""

    ANYONE = "anyone"
    USER = "user"
    ADMIN = "admin"
    RUNNER = "runner"
    REGISTRAR = "registrar"  # may register runners: an admin, or a registration token


def bearer_token(request: Request) -> str:
    """The token of `Authorization: Bearer`, or the password of Basic; empty where there is none."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return ""


def identify(wiring: Wiring, request: Request) -> Caller:
    """Raises NotSignedIn. One indexed read: cheaper on the event loop than the way to a thread and back."""
    token = bearer_token(request)
    if not token:
        raise NotSignedIn("this needs a token", "Set DSTACK_TOKEN, or sign in with `dstack config`.")
    return wiring.db.read(lambda session: find_caller(session, token, wiring.clock.now()))


def admit(wiring: Wiring, request: Request, audience: Audience) -> Caller | None:
    """The caller, if they belong to the audience. Raises NotSignedIn or NotAllowed."""
    if audience is Audience.ANYONE:
        return None
    caller = identify(wiring, request)
    if not _ADMITS[audience](caller):
        raise NotAllowed(_REFUSALS[audience])
    if audience in (Audience.RUNNER, Audience.REGISTRAR):
        check_protocol(request)
    return caller


def check_protocol(request: Request) -> None:
    """Runners say which protocol they speak. Raises UnsupportedVersion for another than ours."""
    spoken = request.headers.get(PROTOCOL_HEADER, str(PROTOCOL))
    if spoken != str(PROTOCOL):
        raise UnsupportedVersion(
            f"the runner speaks protocol {spoken[:20]}, this server {PROTOCOL}", "Install the same version on both."
        )


def the_runner(caller: Caller | None) -> Runner:
    assert caller is not None and caller.runner is not None
    return caller.runner


def user_name(caller: Caller | None) -> str:
    assert caller is not None and caller.user is not None
    return caller.user.name


USER_TOKENS = (TokenKind.PERSONAL, TokenKind.SESSION)  # a sign-in link only opens a session
_ADMITS: dict[Audience, Callable[[Caller], bool]] = {
    Audience.USER: lambda caller: caller.user is not None and caller.kind in USER_TOKENS,
    Audience.ADMIN: lambda caller: caller.is_admin and caller.kind in USER_TOKENS,
    Audience.RUNNER: lambda caller: caller.runner is not None and caller.kind is TokenKind.RUNNER,
    Audience.REGISTRAR: lambda caller: (
        caller.kind is TokenKind.REGISTRATION or (caller.is_admin and caller.kind in USER_TOKENS)
    ),
}
_REFUSALS = {
    Audience.USER: "this is for users; the token is not a user's",
    Audience.ADMIN: "this is for admins",
    Audience.RUNNER: "this is for runners; the token is not a runner's",
    Audience.REGISTRAR: "registering a runner takes an admin's token or a registration token",
}


_MANY_KEYS = 10_000


class Pace:
    """At most `per_second` calls a second for each key, with twice that in a burst."""

    def __init__(self, per_second: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._now = per_second, monotonic
        self._level: dict[object, tuple[float, float]] = {}

    def take(self, key: object) -> None:
        """Raises TooMany when the key calls too fast."""
        now = self._now()
        if len(self._level) >= _MANY_KEYS:
            self._forget_the_silent(now)
        level, since = self._level.get(key, (0.0, now))
        level = max(0.0, level - (now - since) * self._rate) + 1
        if level > self._rate * 2:
            raise TooMany(f"more than {self._rate:.0f} calls a second", "Slow down.", retry_after=1)
        self._level[key] = (level, now)

    def _forget_the_silent(self, now: float) -> None:
        """Those whose level has run dry are as good as never seen."""
        known = list(self._level.items())
        self._level = {key: (level, since) for key, (level, since) in known if (now - since) * self._rate < level}
