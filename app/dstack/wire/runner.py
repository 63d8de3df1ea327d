"""The messages between a runner and the server.

The runner dials out; the server never calls it. Requests carry `Authorization: Bearer RUNNER-TOKEN`; every write of an
attempt also carries `Dstack-Lease: TOKEN`, the fencing token of that attempt (a stale one is answered 409 `lease_lost`
and changes nothing). All calls may be repeated. The table of calls is `CALLS` below.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from dstack.wire.job import Gpu, Job
from dstack.wire.states import AttemptState, Reason

PROTOCOL = 1
PROTOCOL_HEADER = "Dstack-Protocol"
LEASE_HEADER = "Dstack-Lease"
LEASE_S = 60
RENEW_EVERY_S = 10
OFFER_S = 15
POLL_S = 25
MAX_LOG_CHUNK = 8 * 1024 * 1024
MAX_LOG_BYTES = 10 * 1024**3
MAX_PACK_BYTES = 32 * 1024 * 1024
SMALL_BLOB_BYTES = 256 * 1024

CALLS = {
    "register": "POST /api/v1/runners",
    "poll": "POST /api/v1/runner/poll",
    "renew": "POST /api/v1/runner/renew",
    "accept": "POST /api/v1/attempts/{attempt}/accept",
    "state": "POST /api/v1/attempts/{attempt}/state",
    "log": "PUT /api/v1/attempts/{attempt}/log?offset=N",
    "metrics": "POST /api/v1/attempts/{attempt}/metrics",
    "missing": "POST /api/v1/attempts/{attempt}/blobs/missing",
    "put_blob": "PUT /api/v1/attempts/{attempt}/blobs/{digest}",
    "put_pack": "PUT /api/v1/attempts/{attempt}/packs",
    "save_artifact": "POST /api/v1/attempts/{attempt}/artifacts",
    "get_manifest": "GET /api/v1/attempts/{attempt}/manifests/{digest}",
    "get_blob": "GET /api/v1/attempts/{attempt}/blobs/{digest}",
    "get_pack": "POST /api/v1/attempts/{attempt}/packs/read",
    "finish": "POST /api/v1/attempts/{attempt}/finish",
}


@dataclass(frozen=True, slots=True)
class Device:
    """One GPU of a runner. `id` is what CUDA_VISIBLE_DEVICES takes (its UUID, or an index for a pretend GPU)."""

    id: str
    name: str
    memory: int
    busy: str = ""  # why it is not offered now, e.g. "used by process 4711 (python)"


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a runner's machine has: cores, memory in bytes, GPUs, and how many jobs it runs at once at most."""

    cpu: int
    memory: int
    devices: tuple[Device, ...] = ()
    slots: int = 1
    labels: tuple[str, ...] = ()
    isolated: bool = False  # jobs run under a user of their own
    untrusted: bool = False  # it takes jobs of strangers too (approved pull requests of forks)

    @property
    def takes_untrusted(self) -> bool:
        """Without users of their own such jobs could reach into the runner and into those that come after them."""
        return self.untrusted and self.isolated


@dataclass(frozen=True, slots=True)
class Registration:
    """A runner introduces itself; answered with `Registered`. The same name registers the same runner again."""

    name: str
    capacity: Capacity
    version: str = ""


@dataclass(frozen=True, slots=True)
class Registered:
    id: str
    name: str
    token: str


@dataclass(frozen=True, slots=True)
class Poll:
    """A runner asks for work: what it has, and the attempts it still executes."""

    capacity: Capacity
    live: tuple[str, ...] = ()
    wait_s: float = POLL_S
    draining: bool = False


@dataclass(frozen=True, slots=True)
class Offer:
    """A job reserved for this runner until it accepts or `OFFER_S` pass. `lease` is the attempt's fencing token."""

    attempt: str
    lease: str
    run: str
    gpus: Gpu = field(default_factory=Gpu)
    devices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Stop:
    """An attempt that must stop: TERM, `grace_s`, KILL. `lost` means its lease is gone: KILL, and send nothing more."""

    attempt: str
    reason: Reason = Reason.CANCELED_BY
    grace_s: int = 10
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Polled:
    offers: tuple[Offer, ...] = ()
    stops: tuple[Stop, ...] = ()


@dataclass(frozen=True, slots=True)
class Renewal:
    """Renews the leases of attempts (attempt -> fencing token)."""

    leases: dict[str, str]


@dataclass(frozen=True, slots=True)
class Renewed:
    """The attempts still held (each for another `lease_s`), and those to stop or already lost."""

    held: tuple[str, ...] = ()
    stops: tuple[Stop, ...] = ()
    lease_s: int = LEASE_S


@dataclass(frozen=True, slots=True)
class Input:
    """An artifact to mount: `manifest` is its digest; `copy` makes it writable; `source` says what it is in words."""

    path: str
    manifest: str
    bytes: int
    files: int
    copy: bool = False
    source: str = ""


@dataclass(frozen=True, slots=True)
class Order:
    """Everything an accepted attempt needs. `clone_path` is relative to the server's address; `clone_token` (any user
    name, this as password) opens that repository alone, for reading, while the attempt lives. `env` holds what the
    server adds (run name, variables); `secrets` are values."""

    attempt: str
    number: int
    job_id: str
    run: str
    repo: str
    clone_path: str
    clone_token: str
    sha: str
    workflow: str
    job: Job
    branch: str = ""
    env: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    inputs: tuple[Input, ...] = ()
    devices: tuple[str, ...] = ()
    trusted: bool = True
    lease_s: int = LEASE_S


@dataclass(frozen=True, slots=True)
class StateReport:
    """An attempt moved on: preparing -> running -> saving. `step` is the runner's own word for what it does."""

    state: AttemptState
    step: str = ""


@dataclass(frozen=True, slots=True)
class MetricPoint:
    """A number a job reports: per step, or final where `step` is None. `at` is seconds since the epoch."""

    name: str
    value: float
    step: int | None = None
    at: float | None = None


@dataclass(frozen=True, slots=True)
class MetricsReport:
    """Points number `offset`, `offset + 1`, ... of this attempt: a repetition stores nothing twice."""

    offset: int
    points: tuple[MetricPoint, ...]


@dataclass(frozen=True, slots=True)
class BlobQuery:
    digests: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BlobsMissing:
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SaveArtifact:
    """Makes an artifact visible: `path` as the workflow names it, `manifest` its canonical bytes as text.
    Refused (422) until every blob is in the store."""

    path: str
    manifest: str
    skipped: tuple[str, ...] = ()  # what was left out and why, shown to people


@dataclass(frozen=True, slots=True)
class ArtifactSaved:
    digest: str
    bytes: int
    files: int


@dataclass(frozen=True, slots=True)
class Finish:
    """The attempt's end, sent last. `metrics` are the final ones; `jobs` the output of a custom provider (JSON text).

    `machine_fault` says that the machine or the network failed, not the code (a fetch that broke off, a full disk):
    the job may be tried again elsewhere.
    """

    state: AttemptState
    reason: Reason | None = None
    message: str = ""
    exit_code: int | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    report: str = ""
    jobs: str = ""
    log_bytes: int = 0
    machine_fault: bool = False
