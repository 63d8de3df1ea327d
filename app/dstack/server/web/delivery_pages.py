"""The page of deliveries: what came in, what it did, and a button that handles one again."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlencode

from sqlmodel import Session
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from dstack.errors import Malformed, NotAllowed
from dstack.server.models.delivery import DeliveryState
from dstack.server.models.user import Role
from dstack.server.services.replay_delivery import replay_delivery
from dstack.server.store.delivery_views import DeliveryFilter, list_deliveries
from dstack.server.store.people import user_by_name
from dstack.server.store.repos import list_repos, repo_by_name
from dstack.server.web.page_choices import whole_number
from dstack.server.web.page_shell import Shell
from dstack.server.wiring import Wiring, own_login
from dstack.wire.api import DeliveryView

_PAGE: Final = 50


class DeliveryPages:
    """Members look; an admin may also have one handled again."""

    def __init__(self, wiring: Wiring, shell: Shell) -> None:
        self._wiring, self._shell = wiring, shell

    def routes(self) -> list[Route]:
        edge = self._shell.edge
        return [
            Route("/deliveries", edge(self.overview), methods=["GET"]),
            Route("/deliveries/{id:int}/replay", edge(self.replay), methods=["POST"]),
        ]

    async def overview(self, request: Request) -> Response:
        wanted = {name: request.query_params.get(name, "")[:300] for name in ("repo", "state")}
        if wanted["state"] and wanted["state"] not in list(DeliveryState):
            raise Malformed("There is no such state.", "Known: " + ", ".join(DeliveryState) + ".")
        before = whole_number(request, "cursor")

        def load(viewer: str) -> dict[str, Any]:
            return self._wiring.db.read(lambda s: _load(s, viewer, wanted, before, own_login(self._wiring)))

        return await self._shell.show(request, "pages/deliveries.html", load)

    async def replay(self, request: Request) -> Response:
        wiring, fields = self._wiring, await self._shell.posted(request)

        def unit(session: Session, viewer: str) -> None:
            if not _is_admin(session, viewer):
                raise NotAllowed("Only an admin may have a delivery handled again.")
            replay_delivery(session, request.path_params["id"], by=viewer, clock=wiring.clock)

        await self._shell.act(request, fields, lambda viewer: wiring.db.write(lambda s: unit(s, viewer)))
        return RedirectResponse("/deliveries", status_code=303)


def _load(session: Session, viewer: str, wanted: dict[str, str], before: int | None, own: str) -> dict[str, Any]:
    owner, _, name = wanted["repo"].partition("/")
    repo = repo_by_name(session, owner, name) if wanted["repo"] else None
    want = DeliveryFilter(repo.id if repo else None, wanted["state"], before, "" if wanted["state"] else own)
    rows = list_deliveries(session, want, _PAGE + 1) if repo or not wanted["repo"] else []
    older = {"cursor": str(rows[_PAGE - 1].id)} if len(rows) > _PAGE else {}
    return {
        "rows": rows[:_PAGE],
        "repos": [known.full_name for known in list_repos(session)],
        "wanted": wanted,
        "with_state": lambda state: _address(wanted | {"state": state}),
        "next": _address(wanted | older) if older else "",
        "is_older": before is not None,
        "may_replay": _is_admin(session, viewer),
        "can_be_replayed": _can_be_replayed,
        "is_moving": before is None,  # new ones come at any time
    }


def _is_admin(session: Session, viewer: str) -> bool:
    user = user_by_name(session, viewer)
    return user is not None and user.role is Role.ADMIN


def _can_be_replayed(row: DeliveryView) -> bool:
    """Whether to offer it. What made its runs by hand, by a schedule or by a button would make them twice; such a wish
    is refused anyway."""
    is_of_git = row.event == "push" or ("." in row.event and not row.event.startswith("check_"))
    return row.state != DeliveryState.RECEIVED and (is_of_git or not row.runs)


def _address(values: dict[str, str]) -> str:
    query = urlencode({name: value for name, value in values.items() if value})
    return f"/deliveries?{query}" if query else "/deliveries"
