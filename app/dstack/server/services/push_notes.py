"""Pushes the Git notes of a mirrored repository to the forge, where the setting asks for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from dstack.errors import ForgeRefused, GitFailed
from dstack.server.models import OutboxMark
from dstack.server.store.reports import split_target
from dstack.server.store.repos import repo_by_id
from dstack.server.wiring import Wiring, place_of


def send(wiring: Wiring, mark: OutboxMark) -> Iterator[Callable[[], None]]:
    """The target is `REPO-ID:`. The same notes again are the same: nothing is recorded."""
    repo_id, _ = split_target(mark)
    repo = wiring.db.read(lambda s: repo_by_id(s, repo_id))
    if not wiring.settings.github_notes or not wiring.notes.exist(str(repo_id)):
        return

    def push() -> None:
        address, token = wiring.forge.push_address(place_of(repo))
        try:
            wiring.mirrors.push_notes(str(repo_id), address, token)
        except GitFailed as error:
            hint = "DSTACK_GITHUB_NOTES needs an App with `contents: write`."
            raise ForgeRefused(error.message, hint) from None

    yield push
