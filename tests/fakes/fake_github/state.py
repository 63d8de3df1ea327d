"""What the fake GitHub remembers: accounts, apps, installations, tokens, repositories and what was written to them.

Plain data. Who may touch it and what is announced when it changes is decided elsewhere. Times are epoch seconds.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Account:
    """A person, an organization or an App's bot."""

    login: str
    id: int
    type: str = "User"  # User, Organization, Bot


@dataclass(slots=True, eq=False)
class App:
    """A registered GitHub App, with what its owner got at the registration."""

    id: int
    slug: str
    name: str
    pem: str
    webhook_secret: str
    client_id: str
    client_secret: str
    webhook_url: str
    permissions: dict[str, str]
    events: list[str]
    owner: Account
    bot: Account
    created_at: float
    html_url: str = ""
    setup_url: str = ""
    external_url: str = "https://example.org"
    active: bool = True  # an inactive webhook makes no deliveries at all
    public_key: Any = None


@dataclass(slots=True, eq=False)
class Installation:
    """An App on an account; `repo_ids` None means all repositories of it, also later ones."""

    id: int
    app: App
    account: Account
    repo_ids: set[int] | None
    permissions: dict[str, str]
    created_at: float
    suspended_at: float | None = None
    gone: bool = False


@dataclass(slots=True, eq=False)
class Token:
    """An installation's token (`installation`) or a person's (`login`)."""

    value: str
    expires_at: float
    installation: Installation | None = None
    account: Account | None = None
    repo_ids: set[int] | None = None
    permissions: dict[str, str] = field(default_factory=dict)
    revoked: bool = False


@dataclass(slots=True, eq=False)
class Status:
    """One commit status; the newest of a context counts."""

    id: int
    sha: str
    state: str
    context: str
    description: str | None
    target_url: str | None
    creator: Account
    created_at: float


@dataclass(slots=True, eq=False)
class CheckSuite:
    """All check runs of one App on one commit."""

    id: int
    sha: str
    app: App
    head_branch: str | None
    created_at: float
    reset: bool = False  # a re-run was asked: queued until a run of it is written again


@dataclass(slots=True, eq=False)
class CheckRun:
    """A check run as it stands; `annotations` pile up over updates."""

    id: int
    app: App
    suite: CheckSuite
    name: str
    head_sha: str
    status: str
    conclusion: str | None
    created_at: float
    touched_at: float
    started_at: str | None = None
    completed_at: str | None = None
    external_id: str = ""
    details_url: str | None = None
    output: Json = field(default_factory=dict)  # title, summary, text
    annotations: list[Json] = field(default_factory=list)
    actions: list[Json] = field(default_factory=list)
    updates: int = 0


@dataclass(slots=True, eq=False)
class Reaction:
    id: int
    content: str
    account: Account
    created_at: float


@dataclass(slots=True, eq=False)
class Comment:
    """A comment of an issue or a pull request; `app` is the App it was written through."""

    id: int
    repo: Repo
    number: int
    author: Account
    body: str
    created_at: float
    updated_at: float
    app: App | None = None
    reactions: list[Reaction] = field(default_factory=list)
    edits: int = 0


@dataclass(slots=True, eq=False)
class Pull:
    """What makes an issue a pull request. `head_repo` None: the fork is gone."""

    id: int
    head_repo: Repo | None
    head_owner: Account
    head_ref: str
    head_sha: str
    base_ref: str
    base_sha: str
    draft: bool = False
    merged_at: float | None = None
    merged_by: Account | None = None
    merge_commit_sha: str | None = None

    @property
    def head_label(self) -> str:
        return f"{self.head_owner.login}:{self.head_ref}"


@dataclass(slots=True, eq=False)
class Issue:
    """An issue, or with `pull` a pull request: they share numbers and comments."""

    id: int
    number: int
    title: str
    body: str | None
    author: Account
    created_at: float
    updated_at: float
    state: str = "open"
    closed_at: float | None = None
    labels: list[str] = field(default_factory=list)
    pull: Pull | None = None
    app: App | None = None
    edits: int = 0


@dataclass(slots=True, eq=False)
class Repo:
    """A repository: its bare Git folder and everything written about it."""

    id: int
    owner: Account
    name: str
    private: bool
    path: Path
    created_at: float
    default_branch: str = "main"
    fork_of: Repo | None = None
    pushed_at: float | None = None
    permissions: dict[str, tuple[str, str]] = field(default_factory=dict)  # login -> (permission, role name)
    issues: dict[int, Issue] = field(default_factory=dict)
    statuses: dict[str, list[Status]] = field(default_factory=dict)
    suites: list[CheckSuite] = field(default_factory=list)
    checks: dict[int, CheckRun] = field(default_factory=dict)
    comments: dict[int, Comment] = field(default_factory=dict)
    numbers: int = 0
    gone: bool = False

    @property
    def full_name(self) -> str:
        return f"{self.owner.login}/{self.name}"

    @property
    def pulls(self) -> list[Issue]:
        return [issue for issue in self.issues.values() if issue.pull is not None]


@dataclass(slots=True, eq=False)
class Delivery:
    """One attempt to deliver a webhook, as the App's delivery log shows it."""

    id: int
    guid: str
    app: App
    event: str
    action: str | None
    delivered_at: float
    redelivery: bool
    headers: dict[str, str]
    payload: Json
    raw: bytes
    installation_id: int | None
    repository_id: int | None
    url: str
    status: str = "pending"
    status_code: int = 0
    duration: float = 0.0
    answer_headers: dict[str, str] = field(default_factory=dict)
    answer: str = ""


@dataclass(frozen=True, slots=True)
class Call:
    """One API call in the ledger. `fault` names what was played on it; `path` is below the API's address."""

    time: float
    method: str
    path: str
    query: str
    status: int  # 0: no answer was sent
    installation: int | None
    body: Any
    fault: str = ""


def iso(at: float | None) -> str | None:
    """GitHub's form of a time."""
    if at is None:
        return None
    return datetime.datetime.fromtimestamp(int(at), datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def node_id(kind: str, number: int) -> str:
    return f"{kind}_{number:x}"
