"""The way in and out: an access token in a form, or the one-time link the server printed."""

from __future__ import annotations

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from dstack.errors import DstackError, NotSignedIn, TooMany
from dstack.server.web.page_ports import Session
from dstack.server.web.page_shell import Shell, local_path, read_form


class SignIn:
    """The pages that need no sign-in."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    def routes(self) -> list[Route]:
        edge = self._shell.edge
        return [
            Route("/sign-in", edge(self.form), methods=["GET"]),
            Route("/sign-in", edge(self.enter), methods=["POST"]),
            Route("/sign-out", edge(self.leave), methods=["POST"]),
        ]

    async def form(self, request: Request) -> Response:
        """The form; with `code=`, the printed link: signs in at once and drops the code from the address."""
        onward = local_path(request.query_params.get("next"))
        code = request.query_params.get("code", "")
        if not code or request.method == "HEAD":  # what looks at a link before a person follows it does not use it up
            return await self._page(request, onward)
        return await self._open(request, onward, code=code)

    async def enter(self, request: Request) -> Response:
        self._shell.check_origin(request)
        fields = await read_form(request)
        return await self._open(request, local_path(fields.get("next")), token=fields.get("token", "").strip())

    async def leave(self, request: Request) -> Response:
        self._shell.check_origin(request)
        fields = await read_form(request)

        def work() -> str:
            self._shell.guard.check_csrf(request, fields.get("csrf", ""))
            return self._shell.guard.close_session(request)

        cookie = await to_thread.run_sync(work)
        answer = RedirectResponse("/sign-in", status_code=303)
        answer.delete_cookie(cookie, path="/")
        return answer

    async def _open(self, request: Request, onward: str, *, token: str = "", code: str = "") -> Response:
        try:
            session: Session = await to_thread.run_sync(
                lambda: self._shell.guard.open_session(request, token=token, code=code)
            )
        except (NotSignedIn, TooMany) as error:
            return await self._page(request, onward, error)
        answer = RedirectResponse(onward, status_code=303, headers={"cache-control": "no-store"})
        answer.set_cookie(
            session.cookie, session.value, max_age=session.max_age_s, path="/",
            secure=session.secure, httponly=True, samesite="lax",
        )  # fmt: skip
        return answer

    async def _page(self, request: Request, onward: str, error: DstackError | None = None) -> Response:
        context = {"next": onward, "message": error.message if error else "", "hint": error.hint if error else ""}
        html = await to_thread.run_sync(lambda: self._shell.render(request, "pages/sign_in.html", context, user=None))
        return HTMLResponse(html, status_code=error.status if error else 200, headers={"cache-control": "no-store"})
