"""The pages of the way to GitHub and back: hand the manifest over, take the App, say what comes next."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from dstack.errors import NotAllowed
from dstack.server.services.make_app import finish_app, form_address, manifest_of, read_state
from dstack.server.web.api.github import view_github
from dstack.server.web.github_overview import forge_overview
from dstack.server.web.page_shell import Shell
from dstack.server.web.security_headers import CONTENT_SECURITY_POLICY
from dstack.server.wiring import Wiring


class GithubPages:
    """Who has the one-time address that `dstack github connect` printed may go this way; nobody needs to sign in."""

    def __init__(self, wiring: Wiring, shell: Shell) -> None:
        self._wiring, self._shell = wiring, shell

    def routes(self) -> list[Route]:
        edge = self._shell.edge
        return [
            Route("/github", edge(self.overview), methods=["GET"]),
            Route("/github/connect/{state}", edge(self.begin), methods=["GET"]),
            Route("/github/connected", edge(self.finish), methods=["GET"]),
        ]

    async def overview(self, request: Request) -> Response:
        wiring = self._wiring

        def load(user: str) -> dict[str, Any]:
            found = wiring.db.read(lambda s: forge_overview(s, wiring.settings.github_url))
            return {"github": view_github(wiring), "found": found}

        return await self._shell.show(request, "pages/github.html", load)

    async def begin(self, request: Request) -> Response:
        wiring, state = self._wiring, request.path_params["state"]
        start = read_state(wiring, state)
        action = form_address(wiring.settings, start)
        context = {
            "action": f"{action}?state={state}",
            "manifest": json.dumps(manifest_of(wiring, start)),
            "start": start,
            "permissions": manifest_of(wiring, start)["default_permissions"],
        }
        return await self._page(request, "pages/github_connect.html", lambda: context, form_to=_origin(action))

    async def finish(self, request: Request) -> Response:
        """GitHub sent the browser back. Looking twice at this address finds the code used up, and says so."""
        code, state = request.query_params.get("code", ""), request.query_params.get("state", "")
        if request.method == "HEAD":
            raise NotAllowed("This address is for a browser.")

        def take() -> dict[str, Any]:
            finish_app(self._wiring, state, code)
            return {"github": view_github(self._wiring)}

        return await self._page(request, "pages/github_connected.html", take)

    async def _page(
        self, request: Request, template: str, load: Callable[[], dict[str, Any]], form_to: str = ""
    ) -> Response:
        html = await to_thread.run_sync(lambda: self._shell.render(request, template, load(), user=None))
        headers = {"cache-control": "no-store", "referrer-policy": "no-referrer"}
        if form_to:
            policy = CONTENT_SECURITY_POLICY.replace("form-action 'self'", f"form-action {form_to}")
            headers["content-security-policy"] = policy
        return HTMLResponse(html, headers=headers)


def _origin(address: str) -> str:
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}"
