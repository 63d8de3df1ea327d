"""What all pages share: templates, who is signed in, forms that came from ourselves, and errors as pages.

It decides nothing about runs; `pages.py` has the pages, `sign_in.py` the way in.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, quote, urlsplit

from anyio import to_thread
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

import dstack
from dstack.errors import DstackError, Malformed, NotAllowed, NotFound, NotSignedIn, TooLarge
from dstack.server.web.log_window import line_html
from dstack.server.web.page_ports import Guard
from dstack.server.web.problems import request_id
from dstack.server.web.render import chart, markdown, words

MAX_FORM: Final = 64 * 1024

_log = logging.getLogger(__name__)

Handler = Callable[[Request], Awaitable[Response]]


def template_folder() -> Path:
    """Where the templates lie: inside the installed package, or beside `app/` in a checkout."""
    package = Path(str(dstack.__file__)).parent
    installed = package / "templates"
    return installed if installed.is_dir() else package.parent.parent / "templates"


def make_environment(folder: Path) -> Environment:
    """Templates where everything is escaped and an unknown name is an error, with our words as filters."""
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in ("mark", "verdict_mark", "explain", "delta", "seconds_between"):
        environment.globals[name] = getattr(words, name)
    for name in (
        "duration",
        "age",
        "clock",
        "size",
        "number",
        "short_sha",
        "short_digest",
        "with_code",
        "trigger_words",
    ):
        environment.filters[name] = getattr(words, name)
    environment.filters |= {"quoted": lambda text: quote(text, safe=""), "report": markdown.render_report}
    environment.globals |= {"line_chart": chart.line_chart, "chart_summary": chart.summary, "line_html": line_html}
    environment.globals["asset"] = _AssetNames(folder / "static").address
    return environment


class _AssetNames:
    """Addresses of our static files that change with their content."""

    def __init__(self, folder: Path) -> None:
        self._known = {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()[:10] for path in folder.iterdir() if path.is_file()
        }

    def address(self, name: str) -> str:
        return f"/static/{name}?v={self._known[name]}"


def local_path(text: str | None) -> str:
    """A path on this server to go on to; anything that a browser could read as another place becomes `/`."""
    if not text or len(text) > 2000 or not text.startswith("/") or text.startswith("//"):
        return "/"
    if "\\" in text or any(ord(char) < 33 or ord(char) == 127 for char in text) or text.startswith("/sign-"):
        return "/"
    try:
        parts = urlsplit(text)
    except ValueError:
        return "/"
    return "/" if parts.scheme or parts.netloc else text


def _host_of(origin: str) -> str:
    """Host and port of an Origin; `null` has none that could be ours."""
    try:
        return urlsplit(origin).netloc or "null"
    except ValueError:
        return "null"


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a posted form, the first value of each. Raises Malformed or TooLarge."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/x-www-form-urlencoded":
        raise Malformed("This form is not in the form encoding browsers use.")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_FORM:
            raise TooLarge(f"The form is larger than {MAX_FORM // 1024} KiB.")
    try:
        fields = parse_qs(body.decode("ascii"), keep_blank_values=True, max_num_fields=50, errors="strict")
    except ValueError:
        raise Malformed("The form could not be read.") from None
    return {name: values[0] for name, values in fields.items()}


class Shell:
    """The frame around every page."""

    def __init__(self, guard: Guard, clock: Callable[[], datetime], public_url: str) -> None:
        self.guard = guard
        self._clock = clock
        self._public_url = public_url.rstrip("/")
        self._environment = make_environment(template_folder())

    def check_origin(self, request: Request) -> None:
        """A form must come from a page of ours: its Origin is the host it was sent to, or the server's public address
        (a proxy may rewrite the former). Raises NotAllowed."""
        origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site", "same-origin")
        ours = {request.headers.get("host", ""), urlsplit(self._public_url).netloc}
        if site not in ("same-origin", "none") or (origin is not None and _host_of(origin) not in ours):
            raise NotAllowed("This form was sent from another site.", "Open the page here and try again.")

    def viewer(self, request: Request) -> str:
        """The signed-in user. Raises NotSignedIn."""
        user = self.guard.current_user(request)
        if user is None:
            raise NotSignedIn("You are not signed in.", "Sign in with an access token.")
        return user

    def render(self, request: Request, template: str, context: dict[str, Any], *, user: str | None) -> str:
        """The text of a page. It reads the clock once, so that all ages on it agree."""
        shared: dict[str, Any] = {
            "user": user,
            "csrf": self.guard.csrf_token(request) if user else "",
            "path": request.url.path,
        }
        shared |= {"now": self._clock(), "server_url": self._public_url}
        return self._environment.get_template(template).render(shared | context)

    async def show(self, request: Request, template: str, load: Callable[[str], dict[str, Any]]) -> Response:
        """A page for a signed-in user; `load` gives what the template needs, in a thread."""

        def work() -> str:
            user = self.viewer(request)
            return self.render(request, template, load(user), user=user)

        html = await to_thread.run_sync(work)
        return HTMLResponse(html, headers={"cache-control": "no-store"})

    async def posted(self, request: Request) -> dict[str, str]:
        """The fields of a form that came from a page of ours. Raises NotAllowed, Malformed or TooLarge."""
        self.check_origin(request)
        return await read_form(request)

    async def act(self, request: Request, fields: dict[str, str], action: Callable[[str], object]) -> object:
        """Runs what a button asks for, for a signed-in user whose form carries the session's token."""

        def work() -> object:
            viewer = self.viewer(request)
            self.guard.check_csrf(request, fields.get("csrf", ""))
            return action(viewer)

        return await to_thread.run_sync(work)

    def edge(self, handler: Handler) -> Handler:
        """A handler whose errors become pages, and whose anonymous callers are sent to sign in first."""

        async def guarded(request: Request) -> Response:
            try:
                return await handler(request)
            except Exception as error:  # noqa: BLE001 - a fault must read as a page too; it is logged with its stack
                return await self.on_error(request, error)

        return guarded

    async def on_error(self, request: Request, error: Exception) -> Response:
        """Any error as a page."""
        if isinstance(error, NotSignedIn) and request.url.path != "/sign-in":
            here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
            onward = f"?next={quote(here, safe='/')}" if request.method == "GET" and here != "/" else ""
            return RedirectResponse(f"/sign-in{onward}", status_code=303)
        status, message, hint = _facts(error)
        if status == 500:
            _log.error("a page failed", exc_info=error, extra={"action": "page", "request_id": request_id(request)})
        headers = dict(getattr(error, "headers", None) or {}) | {"cache-control": "no-store"}

        def work() -> str:
            context = {"status": status, "message": message, "hint": hint}
            context["request_id"] = request_id(request) if status >= 500 else ""
            return self.render(request, "pages/problem.html", context, user=self._user_or_none(request))

        return HTMLResponse(await to_thread.run_sync(work), status_code=status, headers=headers)

    def _user_or_none(self, request: Request) -> str | None:
        try:
            return self.guard.current_user(request)
        except DstackError:  # the error page must come up even where the sign-in cannot be looked up
            return None


def _facts(error: Exception) -> tuple[int, str, str]:
    """Status, sentence and hint of an error; what is not ours shows no inside."""
    if isinstance(error, DstackError):
        return error.status, error.message, error.hint
    if isinstance(error, HTTPException):
        if error.status_code == HTTPStatus.NOT_FOUND:
            return _facts(NotFound("There is no such page.", "It may have been pruned, or the address is mistyped."))
        return error.status_code, f"{HTTPStatus(error.status_code).phrase}.", ""
    return 500, "Something went wrong on the server.", "Try again; the server's log has the details."
