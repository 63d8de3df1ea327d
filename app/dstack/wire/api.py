"""The messages of the client API (`/api/v1`), spoken by the CLI and by scripts. JSON keys are stable."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Problem:
    """The body of every error."""

    error: str
    message: str
    hint: str = ""
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class ArtifactView:
    path: str
    digest: str
    bytes: int
    files: int
    id: str = ""


@dataclass(frozen=True, slots=True)
class JobView:
    """A job with its newest attempt. `attempt` counts from 1; 0 means none was made yet."""

    name: str
    state: str
    reason: str
    attempt: int
    runner: str
    exit_code: int | None
    artifacts: list[ArtifactView] = field(default_factory=list)
    id: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class RunView:
    """A run as listings show it. Times are ISO 8601 in UTC; `reason` of a queued run is what it waits for."""

    name: str
    group: str
    needs: list[str]
    repo: str
    workflow: str
    state: str
    reason: str
    sha: str
    branch: str
    trigger: str
    variables: dict[str, str]
    metrics: dict[str, float]
    verdict: str | None
    tags: list[str]
    created_at: str
    started_at: str | None
    finished_at: str | None
    restarted_from: str | None
    jobs: list[JobView] = field(default_factory=list)
    headline: str | None = None  # the metric shown first
    better: str = "higher"  # which way it should go: `higher` or `lower`
    previous_metrics: dict[str, float] = field(default_factory=dict)  # of the workflow's last succeeded run before
    parent: str = ""  # of a working-tree run: the commit the tree was on
    pull_request: int | None = None
    base_run: str | None = None  # what metrics and gate are compared with
    base_metrics: dict[str, float] = field(default_factory=dict)
    gate: str | None = None
    verdict_why: str = ""  # such as `accuracy 0.934 >= base 0.922 - 0.01`
    same_as: str | None = None  # the run that did the same work, whose result this one has


@dataclass(frozen=True, slots=True)
class RunPage:
    runs: list[RunView]
    next: str | None = None  # cursor of the next page


@dataclass(frozen=True, slots=True)
class RunRequest:
    """Start a workflow by hand. `sha` must be in the repo already (the CLI pushes it to a hidden ref). Either
    `workflow` names an entry of the file at that commit, or `provider` with `options` runs one without an entry.
    `parent` is the commit a working tree was on (its note goes there). `fresh` does work again that an equal run has
    done. The same `idempotency_key` answers with the
    same group."""

    repo: str
    sha: str
    workflow: str = ""
    branch: str = ""
    parent: str = ""
    variables: dict[str, str] = field(default_factory=dict)
    provider: str = ""
    options: dict[str, object] = field(default_factory=dict)
    idempotency_key: str = ""
    fresh: bool = False


@dataclass(frozen=True, slots=True)
class EventRequest:
    """Something happened that workflows may wait for (`on: event: NAME`). Those of `payload` that a workflow declares
    as variables are set for its run. The same `idempotency_key` is the same event."""

    repo: str
    event: str
    payload: dict[str, str | int | float | bool] = field(default_factory=dict)
    idempotency_key: str = ""


@dataclass(frozen=True, slots=True)
class EventView:
    """What an event did. `reason` says why nothing started, where nothing did."""

    delivery: int
    state: str
    reason: str
    runs: list[RunView] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class StopRequest:
    group: bool = False


@dataclass(frozen=True, slots=True)
class ApproveRequest:
    """Lets the runs of a fork's pull request begin at this run's commit. `budget` reads `4gpu-h`; empty: no limit."""

    budget: str = ""


@dataclass(frozen=True, slots=True)
class TagView:
    """`tag` reads `WORKFLOW:NAME`."""

    repo: str
    tag: str
    run: str
    sha: str
    moved_at: str
    moved_by: str
    artifacts: list[ArtifactView] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class TagRequest:
    run: str


@dataclass(frozen=True, slots=True)
class RepoView:
    name: str
    default_branch: str
    clone_url: str
    created_at: str
    runs: int = 0


@dataclass(frozen=True, slots=True)
class RepoRequest:
    name: str


@dataclass(frozen=True, slots=True)
class SecretView:
    name: str
    updated_at: str
    updated_by: str


@dataclass(frozen=True, slots=True)
class SecretRequest:
    value: str


@dataclass(frozen=True, slots=True)
class DeviceView:
    id: str
    name: str
    memory: int
    busy: str = ""
    job: str = ""


@dataclass(frozen=True, slots=True)
class RunnerView:
    """`state` is `online`, `draining` or `offline`."""

    name: str
    state: str
    cpu: int
    memory: int
    slots: int
    labels: list[str]
    devices: list[DeviceView]
    jobs: list[str]
    last_seen_at: str
    version: str
    isolated: bool
    untrusted: bool = False  # takes approved work of forks


@dataclass(frozen=True, slots=True)
class DeliveryView:
    """An event that came in, and what came of it: the `runs` it made, and `reason`. `state` is received, processed,
    ignored or failed; `event` is the forge's word for it (`pull_request.opened`), or our own."""

    id: int
    event: str
    repo: str
    sender: str
    state: str
    reason: str
    received_at: str
    processed_at: str | None
    runs: list[str] = field(default_factory=list)
    guid: str = ""
    tries: int = 0
    replay_of: int | None = None


@dataclass(frozen=True, slots=True)
class DeliveryPage:
    deliveries: list[DeliveryView]
    next: str | None = None  # cursor of the next page


@dataclass(frozen=True, slots=True)
class UserRequest:
    name: str
    role: str = "member"


@dataclass(frozen=True, slots=True)
class UserView:
    """`token` is there once, in the answer that made it."""

    name: str
    role: str
    created_at: str
    token: str | None = None


@dataclass(frozen=True, slots=True)
class ArtifactFile:
    path: str
    size: int
    digest: str
    mode: int = 0o644
    target: str | None = None


@dataclass(frozen=True, slots=True)
class PruneRequest:
    """Remove what nothing refers to; `days` keeps runs younger than that. `dry_run` only counts."""

    days: int = 30
    dry_run: bool = True


@dataclass(frozen=True, slots=True)
class PruneView:
    runs: int
    artifacts: int
    blobs: int
    bytes: int
    dry_run: bool


@dataclass(frozen=True, slots=True)
class SignInLink:
    """Opens the pages in a browser, once."""

    url: str


@dataclass(frozen=True, slots=True)
class ServerView:
    version: str
    protocol: int
    url: str
    user: str
    role: str
