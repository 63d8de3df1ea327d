"""Answers `gateways.forge.Forge` for GitHub."""

from __future__ import annotations

from dstack.server.gateways.forge import AppCredentials


class GitHub:
    """One App at one GitHub; `api_url` and `url` say which."""

    def __init__(self, api_url: str, url: str) -> None:
        self.api_url, self.url = api_url, url
        self._credentials: AppCredentials | None = None

    @property
    def is_connected(self) -> bool:
        return self._credentials is not None

    @property
    def webhook_secrets(self) -> tuple[str, ...]:
        return self._credentials.webhook_secrets if self._credentials else ()

    @property
    def slug(self) -> str:
        return self._credentials.slug if self._credentials else ""

    def connect(self, credentials: AppCredentials | None) -> None:
        self._credentials = credentials

    def close(self) -> None:
        """Let go of connections."""
