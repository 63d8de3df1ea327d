"""Lets the server speak as its GitHub App: the one of the settings, else the one that was stored."""

from __future__ import annotations

from dataclasses import replace

from dstack.errors import Usage
from dstack.server.gateways.forge_facts import AppCredentials
from dstack.server.models import GithubApp
from dstack.server.settings import Settings
from dstack.server.store.github import KEY_LABEL, SECRET_LABEL, stored_app
from dstack.server.vault import Vault
from dstack.server.wiring import Wiring


def connect_github(wiring: Wiring) -> None:
    """At start. Raises Usage for settings that are there by halves."""
    wiring.forge.connect(credentials_of_settings(wiring.settings) or _stored(wiring))


def credentials_of_settings(settings: Settings) -> AppCredentials | None:
    """None where no App is set. Raises Usage naming what is missing."""
    if settings.github_app_id is None:
        return None
    key = settings.github_private_key.get_secret_value().replace("\\n", "\n")
    if not key and settings.github_private_key_path is not None:
        try:
            key = settings.github_private_key_path.expanduser().read_text()
        except OSError as error:
            raise Usage(f"DSTACK_GITHUB_PRIVATE_KEY_PATH cannot be read: {error.strerror}") from None
    secrets = secrets_of_settings(settings)
    missing = [
        name
        for name, value in (("DSTACK_GITHUB_PRIVATE_KEY (or _PATH)", key), ("DSTACK_GITHUB_WEBHOOK_SECRET", secrets))
        if not value
    ]
    if missing:
        raise Usage(f"DSTACK_GITHUB_APP_ID is set, but {' and '.join(missing)} is not")
    return AppCredentials(settings.github_app_id, key, secrets)


def _stored(wiring: Wiring) -> AppCredentials | None:
    app = wiring.db.read(stored_app)
    if app is None:
        return None
    known = open_app(wiring.vault, app)
    also = tuple(one for one in secrets_of_settings(wiring.settings) if one not in known.webhook_secrets)
    return replace(known, webhook_secrets=(*known.webhook_secrets, *also))


def secrets_of_settings(settings: Settings) -> tuple[str, ...]:
    """All of them are accepted: while one is being changed, GitHub signs with the old or the new."""
    return tuple(s.strip() for s in settings.github_webhook_secret.get_secret_value().split(",") if s.strip())


def open_app(vault: Vault, app: GithubApp) -> AppCredentials:
    """Raises Invalid when the server's key is not the one that sealed it."""
    secrets = tuple(vault.open(SECRET_LABEL, app.sealed_secret).split("\n"))
    return AppCredentials(app.app_id, vault.open(KEY_LABEL, app.sealed_key), secrets, app.slug)
