"""What the server asks of a forge: who we are there, what stands there, and what we say there.

`gateways/github` answers it. No vendor's type passes: what goes either way is of `forge_facts` and `forge_writes`. All
calls are sync, may run at once from several threads, and raise of `dstack.errors` only: NotConnected, ForgeRefused
(`answer` is 401, 403, 404, 422…), ForgeBusy (`retry_after`), ForgeDown (unknown whether it was done).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

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


class Forge(Protocol):
    """GitHub, as far as we use it."""

    @property
    def is_connected(self) -> bool: ...

    @property
    def webhook_secrets(self) -> tuple[str, ...]:
        """Any of them may have signed a webhook. Empty when not connected."""

    @property
    def slug(self) -> str:
        """Our App's short name; its own events come from `SLUG[bot]`."""

    def connect(self, credentials: AppCredentials | None) -> None:
        """Speak as this App from now on; None: as none."""

    # As the App

    def convert_manifest(self, code: str) -> NewApp: ...

    def app(self) -> AppFacts: ...

    def hook_address(self) -> str:
        """Where webhooks are sent; empty when to nowhere."""

    def installations(self) -> list[InstallationFacts]: ...

    def repos_of(self, installation: int) -> list[ForgeRepo]: ...

    def sent_deliveries(self, since: float) -> Iterator[SentDelivery]:
        """The delivery log, newest first, back to `since`."""

    def sent_payload(self, delivery_id: int) -> tuple[str, bytes]:
        """The event name (`X-GitHub-Event`) and the payload of one of them."""

    # Reading a repository

    def clone_address(self, place: Place, *, kept: bool = False) -> tuple[str, str]:
        """The address to fetch from, and a token of this moment that may only read this one repository. `kept`: one
        that was given lately will do, though it may be dead by now."""

    def push_address(self, place: Place) -> tuple[str, str]:
        """The same with a token that may write contents. Raises ForgeRefused where the App may not."""

    def find_repo(self, owner: str, name: str) -> tuple[ForgeRepo, int]:
        """A repository by name, and the installation that covers it."""

    def permission(self, place: Place, login: str) -> Permission:
        """NONE for somebody the forge does not know."""

    def pull(self, place: Place, number: int) -> PullFacts: ...

    def open_pulls(self, place: Place) -> list[PullFacts]: ...

    def comments_since(self, place: Place, since: float) -> list[ForgeComment]:
        """New comments on issues and pull requests of the repository, oldest first."""

    def has_commit(self, place: Place, sha: str) -> bool: ...

    def statuses(self, place: Place, sha: str) -> dict[str, StatusState]:
        """Context -> newest state."""

    # Writing; none of these is repeated by itself

    def write_status(self, place: Place, status: StatusWrite) -> None: ...

    def create_check(self, place: Place, check: CheckWrite) -> str: ...

    def update_check(
        self, place: Place, check_id: str, check: CheckWrite, new_annotations: Sequence[Annotation]
    ) -> None:
        """Annotations already there stay; only new ones are to be given."""

    def find_check(self, place: Place, sha: str, external_id: str) -> str | None:
        """Ours, whatever its name is: that may have been another when it was made."""

    def count_annotations(self, place: Place, check_id: str) -> int:
        """How many stand on it: asked where it is not known whether the last ones arrived."""

    def create_comment(self, place: Place, number: int, body: str) -> str: ...

    def update_comment(self, place: Place, comment_id: str, body: str) -> None: ...

    def find_comment(self, place: Place, number: int, marker: str) -> str | None:
        """Our own comment that has `marker` in its text."""

    def react(self, place: Place, comment_id: int, reaction: str) -> None:
        """`eyes`, `rocket`, `confused`, `-1`. Doing it twice is doing it once."""

    def create_issue(self, place: Place, issue: IssueWrite) -> str: ...

    def update_issue(self, place: Place, number: str, issue: IssueWrite) -> None: ...

    def find_issue(self, place: Place, marker: str) -> str | None:
        """Our own open issue that has `marker` in its text."""
