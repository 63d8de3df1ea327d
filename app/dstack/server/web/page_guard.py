"""Who looks at the pages: sessions in the database behind a cookie, and form tokens bound to the session."""

from __future__ import annotations

import hashlib
import hmac

from sqlmodel import Session as DatabaseSession
from starlette.requests import Request

from dstack.errors import NotAllowed, NotSignedIn, TooMany
from dstack.server.models.token import TokenKind
from dstack.server.services.manage_users import SESSION_S, find_caller, redeem_sign_in
from dstack.server.store.people import token_by_value
from dstack.server.web.access import Pace
from dstack.server.web.page_ports import Session
from dstack.server.wiring import Wiring

COOKIE = "dstack_session"


class SessionGuard:
    """`page_ports.Guard`."""

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring
        self._pace = Pace(5)

    def current_user(self, request: Request) -> str | None:
        token = request.cookies.get(COOKIE, "")
        if not token:
            return None
        try:
            caller = self._wiring.db.read(lambda s: find_caller(s, token, self._wiring.clock.now()))
        except NotSignedIn:
            return None
        return caller.user.name if caller.user is not None and caller.kind is TokenKind.SESSION else None

    def csrf_token(self, request: Request) -> str:
        token = request.cookies.get(COOKIE, "")
        return hashlib.sha256(b"dstack form\0" + token.encode()).hexdigest() if token else ""

    def check_csrf(self, request: Request, token: str) -> None:
        mine = self.csrf_token(request)
        if not mine or not hmac.compare_digest(mine.encode(), token.encode("utf-8", "replace")):
            raise NotAllowed("This form does not belong to your session.", "Reload the page and try again.")

    def open_session(self, request: Request, *, token: str = "", code: str = "") -> Session:
        try:
            # For each caller: one who guesses keeps nobody else out.
            self._pace.take(request.client.host if request.client is not None else "")
        except TooMany:
            raise TooMany("Too many tries to sign in.", "Wait a moment and try again.") from None
        wiring = self._wiring
        value = wiring.db.write(lambda s: redeem_sign_in(s, token or code, wiring.clock))
        return Session(COOKIE, value, SESSION_S, secure=wiring.settings.public_url.startswith("https://"))

    def close_session(self, request: Request) -> str:
        token = request.cookies.get(COOKIE, "")

        def forget(session: DatabaseSession) -> None:
            row = token_by_value(session, token)
            if row is not None:
                session.delete(row)

        self._wiring.db.write(forget)
        return COOKIE
