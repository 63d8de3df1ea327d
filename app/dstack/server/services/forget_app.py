"""Forgets the GitHub App that was stored, with its key and secret."""

from __future__ import annotations

from sqlmodel import Session

from dstack.errors import Conflict, NotFound
from dstack.server.store.github import stored_app
from dstack.server.wiring import Wiring


def forget_app(wiring: Wiring) -> None:
    """Raises NotFound where none is stored, Conflict where it comes from the settings."""
    if wiring.settings.github_app_id is not None:
        raise Conflict("the App comes from the settings", "Remove DSTACK_GITHUB_APP_ID and start the server again.")

    def unit(session: Session) -> None:
        app = stored_app(session)
        if app is None:
            raise NotFound("no GitHub App is connected", "`dstack github connect` connects one.")
        session.delete(app)

    wiring.db.write(unit)
    wiring.forge.connect(None)
