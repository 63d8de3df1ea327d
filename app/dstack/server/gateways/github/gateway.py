"""Answers `gateways.forge.Forge` for GitHub: one method an operation; what each does stands in the files beside."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dstack.server.gateways.forge_facts import (
    AppCredentials,
    AppFacts,
    ForgeComment,
    ForgeRepo,
    InstallationFacts,
    NewApp,
    Permission,
    Place,
    PullFacts,
    SentDelivery,
)
from dstack.server.gateways.forge_writes import Annotation, CheckWrite, IssueWrite, StatusState, StatusWrite
from dstack.server.gateways.github import as_app, checks, code, comments
from dstack.server.gateways.github.connection import Connection

TIMEOUT_S = 15.0
API_VERSION = "2022-11-28"  # an Enterprise server of some age refuses newer ones


class GitHub:
    """One App at one GitHub; `api_url` and `url` (of clones) say which. An empty `api_version` leaves the choice to
    GitHub."""

    def __init__(self, api_url: str, url: str, *, timeout_s: float = TIMEOUT_S, api_version: str = API_VERSION) -> None:
        self.api_url, self.url = api_url, url
        self._connection = Connection(api_url, timeout_s, api_version)

    @property
    def is_connected(self) -> bool:
        return self._connection.credentials is not None

    @property
    def webhook_secrets(self) -> tuple[str, ...]:
        credentials = self._connection.credentials
        return credentials.webhook_secrets if credentials else ()

    @property
    def slug(self) -> str:
        """Where it was not given it is asked for in the background after `connect`; empty until then."""
        return self._connection.slug

    def connect(self, credentials: AppCredentials | None) -> None:
        self._connection.change(credentials)

    def close(self) -> None:
        """Let go of connections."""
        self._connection.close()

    # As the App

    def convert_manifest(self, code: str) -> NewApp:
        return as_app.convert_manifest(self._connection.calls(), code)

    def app(self) -> AppFacts:
        facts = as_app.app(self._connection.app_calls())
        self._connection.slug = facts.slug
        return facts

    def hook_address(self) -> str:
        return as_app.hook_address(self._connection.app_calls())

    def installations(self) -> list[InstallationFacts]:
        return as_app.installations(self._connection.app_calls())

    def repos_of(self, installation: int) -> list[ForgeRepo]:
        return as_app.repos_of(self._connection.app_calls(), installation)

    def sent_deliveries(self, since: float) -> Iterator[SentDelivery]:
        return as_app.sent_deliveries(self._connection.app_calls(), since)

    def sent_payload(self, delivery_id: int) -> tuple[str, bytes]:
        return as_app.sent_payload(self._connection.app_calls(), delivery_id)

    # Reading a repository

    def clone_address(self, place: Place, *, kept: bool = False) -> tuple[str, str]:
        token = self._connection.app_calls().token_for(place.installation, place.name, "read", kept=kept)
        return self._address(place), token

    def push_address(self, place: Place) -> tuple[str, str]:
        return self._address(place), self._connection.app_calls().token_for(place.installation, place.name, "write")

    def find_repo(self, owner: str, name: str) -> tuple[ForgeRepo, int]:
        return as_app.find_repo(self._connection.app_calls(), owner, name)

    def permission(self, place: Place, login: str) -> Permission:
        return code.permission(self._connection.app_calls(), place, login)

    def pull(self, place: Place, number: int) -> PullFacts:
        return code.pull(self._connection.app_calls(), place, number)

    def open_pulls(self, place: Place) -> list[PullFacts]:
        return code.open_pulls(self._connection.app_calls(), place)

    def comments_since(self, place: Place, since: float) -> list[ForgeComment]:
        return code.comments_since(self._connection.app_calls(), place, since)

    def has_commit(self, place: Place, sha: str) -> bool:
        return code.has_commit(self._connection.app_calls(), place, sha)

    def statuses(self, place: Place, sha: str) -> dict[str, StatusState]:
        return code.statuses(self._connection.app_calls(), place, sha)

    # Writing

    def write_status(self, place: Place, status: StatusWrite) -> None:
        code.write_status(self._connection.app_calls(), place, status)

    def create_check(self, place: Place, check: CheckWrite) -> str:
        return checks.create_check(self._connection.app_calls(), place, check)

    def update_check(
        self, place: Place, check_id: str, check: CheckWrite, new_annotations: Sequence[Annotation]
    ) -> None:
        checks.update_check(self._connection.app_calls(), place, check_id, check, new_annotations)

    def count_annotations(self, place: Place, check_id: str) -> int:
        return checks.count_annotations(self._connection.app_calls(), place, check_id)

    def find_check(self, place: Place, sha: str, external_id: str) -> str | None:
        return checks.find_check(self._connection.app_calls(), place, sha, external_id)

    def create_comment(self, place: Place, number: int, body: str) -> str:
        return comments.create_comment(self._connection.app_calls(), place, number, body)

    def update_comment(self, place: Place, comment_id: str, body: str) -> None:
        comments.update_comment(self._connection.app_calls(), place, comment_id, body)

    def find_comment(self, place: Place, number: int, marker: str) -> str | None:
        return comments.find_comment(self._connection.app_calls(), place, number, marker, self.slug)

    def react(self, place: Place, comment_id: int, reaction: str) -> None:
        comments.react(self._connection.app_calls(), place, comment_id, reaction)

    def create_issue(self, place: Place, issue: IssueWrite) -> str:
        return comments.create_issue(self._connection.app_calls(), place, issue)

    def update_issue(self, place: Place, number: str, issue: IssueWrite) -> None:
        comments.update_issue(self._connection.app_calls(), place, number, issue)

    def find_issue(self, place: Place, marker: str) -> str | None:
        return comments.find_issue(self._connection.app_calls(), place, marker, self.slug)

    def _address(self, place: Place) -> str:
        return f"{self.url}/{place.full_name}.git"
