"""What the server asks of a forge: who we are there, what stands there, and what we say there.

`gateways/github` answers it. Everything here is ours: no vendor type passes this file. All calls are sync, may run at
once from several threads, and raise of `dstack.errors` only: NotConnected, ForgeRefused (`answer` is 401, 403, 404,
422…), ForgeBusy (`retry_after`), ForgeDown (unknown whether it was done).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Place:
    """A repository, and the installation through which we may act there."""

    installation: int
    owner: str
    name: str

    @property
    def full_name(self) -> str:
        return f"{self.owner}/{self.name}"


class Permission(StrEnum):
    """What somebody may do in a repository; `maintain` is WRITE, `triage` is READ."""

    ADMIN = "admin"
    WRITE = "write"
    READ = "read"
    NONE = "none"

    @property
    def may_write(self) -> bool:
        return self in (Permission.ADMIN, Permission.WRITE)

    @property
    def may_read(self) -> bool:
        return self is not Permission.NONE


@dataclass(frozen=True, slots=True)
class AppCredentials:
    """`webhook_secrets` are all that are accepted now: two while one is being rotated."""

    app_id: int
    private_key: str = field(repr=False)
    webhook_secrets: tuple[str, ...] = field(default=(), repr=False)
    slug: str = ""


@dataclass(frozen=True, slots=True)
class NewApp:
    """What a forge tells once when an App was made from our manifest."""

    app_id: int
    slug: str
    name: str
    html_url: str
    client_id: str
    private_key: str = field(repr=False)
    webhook_secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class AppFacts:
    """The App as the forge knows it. `clock_skew_s` is its clock minus ours."""

    slug: str
    name: str
    html_url: str
    owner: str
    permissions: dict[str, str]
    events: tuple[str, ...]
    clock_skew_s: float = 0


@dataclass(frozen=True, slots=True)
class InstallationFacts:
    id: int
    account: str
    permissions: dict[str, str]
    events: tuple[str, ...]
    suspended: bool = False


@dataclass(frozen=True, slots=True)
class ForgeRepo:
    forge_id: str
    full_name: str
    default_branch: str
    is_private: bool


@dataclass(frozen=True, slots=True)
class PullFacts:
    """A pull request now. `head_repo` is empty when the fork was deleted. Times are seconds since the epoch."""

    number: int
    title: str
    author: str
    head_sha: str
    head_branch: str
    head_repo: str
    is_fork: bool
    base_branch: str
    base_sha: str
    is_draft: bool
    is_open: bool
    updated_at: float


@dataclass(frozen=True, slots=True)
class ForgeComment:
    id: int
    number: int  # of the pull request or issue it stands on
    author: str
    body: str
    created_at: float
    is_bot: bool = False
    is_edited: bool = False  # by whoever: it no longer need say what its author wrote


@dataclass(frozen=True, slots=True)
class SentDelivery:
    """One line of the forge's delivery log. `guid` is the same for every attempt to deliver one event."""

    id: int
    guid: str
    event: str  # "pull_request.opened"
    delivered_at: float
    status_code: int  # 0: nobody answered

    @property
    def arrived(self) -> bool:
        return 200 <= self.status_code < 300


class StatusState(StrEnum):
    PENDING = "pending"
    SUCCESS = "success"
    FAILURE = "failure"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class StatusWrite:
    """`text` has at most 140 characters."""

    sha: str
    context: str
    state: StatusState
    text: str
    url: str


@dataclass(frozen=True, slots=True)
class Annotation:
    """A remark on a line of a file of the commit; `level` is notice, warning or failure."""

    path: str
    line: int
    level: str
    message: str
    title: str = ""


@dataclass(frozen=True, slots=True)
class CheckButton:
    """A button shown after completion: label up to 20 characters, description 40, identifier 20."""

    label: str
    description: str
    identifier: str


@dataclass(frozen=True, slots=True)
class CheckWrite:
    """A check run whole: `conclusion` empty while it goes on (`status` queued or in_progress). `external_id` is ours,
    by which one whose making was not confirmed is found again. Summary and text have at most 65 535 bytes each."""

    name: str
    sha: str
    external_id: str
    url: str
    status: str
    title: str
    summary: str
    text: str = ""
    conclusion: str = ""
    annotations: tuple[Annotation, ...] = ()
    buttons: tuple[CheckButton, ...] = ()
    started_at: float | None = None
    completed_at: float | None = None


@dataclass(frozen=True, slots=True)
class IssueWrite:
    title: str
    body: str
    is_open: bool = True


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

    def find_check(self, place: Place, sha: str, name: str, external_id: str) -> str | None: ...

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
