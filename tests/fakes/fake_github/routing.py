"""The REST table: which address is which operation, who may call it, and what each operation is given."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote

from fake_github import shapes
from fake_github.state import Account, App, Installation, Json, Repo, Token
from fake_github.wire import Answer, Request

if TYPE_CHECKING:
    from fake_github.world import World

_SLASHED = {"ref", "path", "basehead"}


class Refusal(Exception):
    """An answer that ends the call: GitHub says no."""

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None, **more: Any) -> None:
        super().__init__(message)
        self.answer = Answer(status, shapes.failure(message, **more), headers or {})


class NotFound(Refusal):
    def __init__(self) -> None:
        super().__init__(404, "Not Found")


class Unprocessable(Refusal):
    def __init__(self, message: str = "Validation Failed", *errors: Json | str) -> None:
        super().__init__(422, message, errors=list(errors))


@dataclass(slots=True)
class Caller:
    """Who calls: an App with its JWT, an installation, a person, or nobody."""

    app: App | None = None
    installation: Installation | None = None
    account: Account | None = None
    token: Token | None = None

    @property
    def who(self) -> Account:
        """Whom what is written is from."""
        if self.installation is not None:
            return self.installation.app.bot
        assert self.account is not None
        return self.account

    @property
    def through(self) -> App | None:
        return self.installation.app if self.installation else None


@dataclass(slots=True)
class Op:
    """One call of an operation, as its handler sees it."""

    world: World
    request: Request
    params: dict[str, str]
    body: Any
    caller: Caller
    repo_found: Repo | None = None
    query: dict[str, str] = field(default_factory=dict)

    @property
    def at(self) -> shapes.Addresses:
        return self.world.at

    @property
    def repo(self) -> Repo:
        assert self.repo_found is not None
        return self.repo_found

    @property
    def installation(self) -> Installation:
        assert self.caller.installation is not None
        return self.caller.installation

    @property
    def app(self) -> App:
        assert self.caller.app is not None
        return self.caller.app

    def number(self, name: str) -> int:
        """A whole number of the path. Raises NotFound."""
        try:
            return int(self.params[name])
        except ValueError:
            raise NotFound from None


Handler = Callable[[Op], Answer]
Made = TypeVar("Made", bound=Handler)


@dataclass(frozen=True, slots=True)
class Route:
    """`who`: app (JWT), token (an installation or a person), installation, any. `needs`: one of these permissions."""

    method: str
    template: str
    handler: Handler
    who: str
    needs: tuple[str, ...]
    pattern: re.Pattern[str]


ROUTES: list[Route] = []


def route(method: str, template: str, *needs: str, who: str = "token") -> Callable[[Made], Made]:
    """Enter a handler in the table; more specific addresses first."""
    parts = re.split(r"(\{\w+\})", template)
    pattern = "".join(
        f"(?P<{part[1:-1]}>{'.+' if part[1:-1] in _SLASHED else '[^/]+'})" if part.startswith("{") else re.escape(part)
        for part in parts
    )

    def enter(handler: Made) -> Made:
        ROUTES.append(Route(method, template, handler, who, needs, re.compile(pattern)))
        return handler

    return enter


def find_route(method: str, path: str) -> tuple[Route, dict[str, str]] | None:
    """The operation at a (still encoded) path, with its parameters decoded."""
    for found in ROUTES:
        if found.method == method and (match := found.pattern.fullmatch(path)):
            return found, {name: unquote(value) for name, value in match.groupdict().items()}
    return None


def known_path(path: str) -> bool:
    return any(found.pattern.fullmatch(path) for found in ROUTES)


def read_json(request: Request) -> Any:
    """The body; None when there is none. Raises Refusal as GitHub does."""
    if not request.body:
        return None
    try:
        return json.loads(request.body)
    except ValueError:
        raise Refusal(400, "Problems parsing JSON") from None


def paged(op: Op, items: Sequence[Any], key: str | None = None, per_page: int = 30) -> Answer:
    """One page of a list, with the Link header; under `key` with `total_count` where GitHub wraps it."""
    size = max(1, min(100, int(op.query.get("per_page") or per_page)))
    number = max(1, int(op.query.get("page") or 1))
    last = max(1, -(-len(items) // size))
    shown = list(items[(number - 1) * size : number * size])
    links = {"prev": number - 1, "next": number + 1, "last": last, "first": 1}
    kept = {rel: to for rel, to in links.items() if 1 <= to <= last and to != number}
    if number >= last:
        kept.pop("last", None)
    headers = {}
    if kept:
        rest = "&".join(f"{name}={value}" for name, value in op.query.items() if name not in ("page", "per_page"))
        base = f"{op.at.api}{op.request.path.removeprefix('/api/v3')}?{rest + '&' if rest else ''}per_page={size}"
        headers["Link"] = ", ".join(f'<{base}&page={to}>; rel="{rel}"' for rel, to in kept.items())
    return Answer(200, {"total_count": len(items), key: shown} if key else shown, headers)
