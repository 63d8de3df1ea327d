"""Users and their tokens."""

from __future__ import annotations

from dstack.server.models import User
from dstack.server.models.token import TokenKind
from dstack.server.services.manage_users import SIGN_IN_S, add_user, make_token, remove_user, renew_token
from dstack.server.store.people import list_users
from dstack.server.store.views import iso
from dstack.server.web.access import Audience
from dstack.server.web.operation import Call, Operations
from dstack.wire.api import SignInLink, UserRequest, UserView

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


@operations.add("POST", "/api/v1/sign-in-links", Audience.USER, gives=SignInLink, status=201)
async def post_sign_in_link(call: Call) -> SignInLink:
    """A link that signs the caller in on the pages: good for one use, 24 hours."""
    caller, wiring = call.caller, call.wiring
    assert caller is not None and caller.user is not None
    user = caller.user
    code = await wiring.db.write_async(lambda s: make_token(s, user, wiring.clock, TokenKind.SIGN_IN, SIGN_IN_S))
    return SignInLink(f"{wiring.settings.public_url}/sign-in?code={code}")


@operations.add("DELETE", "/api/v1/users/{name}", Audience.ADMIN, status=204)
async def delete_user(call: Call) -> None:
    """Removes a user; their tokens stop working."""
    await call.wiring.db.write_async(lambda s: remove_user(s, call.path("name")))
