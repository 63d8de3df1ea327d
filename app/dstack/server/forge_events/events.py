"""The events of a forge that we know, as frozen data. Times are seconds since the epoch, ids the forge's own."""

from __future__ import annotations

from dataclasses import dataclass

from dstack.server.gateways.forge_facts import InstallationFacts, PullFacts


@dataclass(frozen=True, slots=True)
class RepoRef:
    """A repository as an event names it: `forge_id` never changes, the name may."""

    forge_id: str
    full_name: str
    default_branch: str = ""
    is_private: bool = True


@dataclass(frozen=True, slots=True)
class Origin:
    """What every event says: what happened, where, and who did it. `app_id` is the App that did it, where one did."""

    event: str
    action: str = ""
    sender: str = ""
    is_bot: bool = False
    installation: int | None = None
    repo: RepoRef | None = None
    app_id: int | None = None

    @property
    def name(self) -> str:
        """As the delivery keeps it: `pull_request.opened`, `push`."""
        return f"{self.event}.{self.action}" if self.action else self.event


@dataclass(frozen=True, slots=True)
class Ping:
    origin: Origin


@dataclass(frozen=True, slots=True)
class Push:
    """A branch or tag moved from `before` to `after` (zeros: it was or is not there). `commit` is what `after` leads
    to: the commit behind an annotated tag."""

    origin: Origin
    ref: str
    before: str
    after: str
    commit: str
    forced: bool = False


@dataclass(frozen=True, slots=True)
class PullRequestEvent:
    """`pull` is how it stands after the event; `old_base` the branch it went to before, where that changed."""

    origin: Origin
    pull: PullFacts
    old_base: str = ""


@dataclass(frozen=True, slots=True)
class MergeGroup:
    """A merge queue asks whether its trial merge `head_sha` onto `base_branch` is good (`checks_requested`), or needs
    to know no more (`destroyed`); `reason` says why: merged, invalidated, dequeued."""

    origin: Origin
    head_sha: str
    head_branch: str
    base_branch: str
    base_sha: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class IssueComment:
    """A comment on the issue or pull request `number`. `author` wrote it, `origin.sender` did what the action says."""

    origin: Origin
    number: int
    is_pull: bool
    is_open: bool
    comment_id: int
    author: str
    author_is_bot: bool
    body: str
    created_at: float


@dataclass(frozen=True, slots=True)
class CheckRunEvent:
    """`external_id` is the id we gave our check; `identifier` that of the button which was pressed."""

    origin: Origin
    head_sha: str
    external_id: str
    identifier: str = ""


@dataclass(frozen=True, slots=True)
class CheckSuiteEvent:
    origin: Origin
    head_sha: str


@dataclass(frozen=True, slots=True)
class InstallationEvent:
    """`repos` are those it covers, where the event lists them."""

    origin: Origin
    installation: InstallationFacts
    repos: tuple[RepoRef, ...] = ()


@dataclass(frozen=True, slots=True)
class InstallationRepositories:
    origin: Origin
    installation: InstallationFacts
    added: tuple[RepoRef, ...] = ()
    removed: tuple[RepoRef, ...] = ()


@dataclass(frozen=True, slots=True)
class RepositoryEvent:
    """`origin.repo` has the name it bears now."""

    origin: Origin


@dataclass(frozen=True, slots=True)
class Other:
    """An event that nothing here acts on: what it says is not looked at."""

    origin: Origin


Event = (
    Ping
    | Push
    | PullRequestEvent
    | MergeGroup
    | IssueComment
    | CheckRunEvent
    | CheckSuiteEvent
    | InstallationEvent
    | InstallationRepositories
    | RepositoryEvent
    | Other
)
