"""Users and their tokens."""

from __future__ import annotations

from dstack.server.models import User
from dstack.server.services.manage_users import add_user, remove_user, renew_token
from dstack.server.store.people import list_users
from dstack.server.store.views import iso
from dstack.server.web.access import Audience
from dstack.server.web.operation import Call, Operations
from dstack.wire.api import UserRequest, UserView

operations = Operations()


def _view(user: User, token: str | None = None) -> UserView:
    return UserView(user.name, user.role.value, iso(user.created_at), token)


@operations.add("GET", "/api/v1/users", Audience.ADMIN, gives=list[UserView])
async def get_users(call: Call) -> list[UserView]:
    """All users."""
    return await call.wiring.db.read_async(lambda s: [_view(user) for user in list_users(s)])


@operations.add("POST", "/api/v1/users", Audience.ADMIN, takes=UserRequest, gives=UserView, status=201)
async def post_user(call: Call) -> UserView:
    """A new user; their token is in this answer and nowhere else."""
    return _view(
        *await call.wiring.db.write_async(lambda s: add_user(s, call.body.name, call.body.role, call.wiring.clock))
    )


@operations.add("POST", "/api/v1/users/{name}/token", Audience.ADMIN, gives=UserView, status=201)
async def post_token(call: Call) -> UserView:
    """A new token for a user; the old ones stop working."""
    return _view(*await call.wiring.db.write_async(lambda s: renew_token(s, call.path("name"), call.wiring.clock)))


@operations.add("DELETE", "/api/v1/users/{name}", Audience.ADMIN, status=204)
async def delete_user(call: Call) -> None:
    """Removes a user; their tokens stop working."""
    await call.wiring.db.write_async(lambda s: remove_user(s, call.path("name")))
