"""The pages a person looks at."""

from __future__ import annotations

from fake_github.wire import Answer, Request, page
from fake_github.world import World


class Pages:
    def __init__(self, world: World) -> None:
        self._world = world

    def answer(self, request: Request) -> Answer:
        return page("<h1>404</h1>", 404)
