"""What stands at a forge, and who we are there: its answers in words of ours, with no vendor's type among them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


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
    """A pull request now. `head_repo` is empty when the fork was deleted. Times are seconds since the epoch;
    `pushed_at` is of the last push to `head_repo`, whatever its branch, 0 where the forge does not say."""

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
    pushed_at: float = 0


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
