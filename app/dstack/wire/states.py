"""The states, reasons and triggers that server, runner and CLI speak of, defined once (see the README, States)."""

from __future__ import annotations

from enum import StrEnum


class JobState(StrEnum):
    """Where a job stands. A run and a group have the same states: each is a fold of its children."""

    WAITING = "waiting"  # on runs it needs or on approval; the server moves it on when they end
    QUEUED = "queued"  # ready for a machine; assignment moves it on
    OFFERED = "offered"  # reserved on a runner; its acceptance, or the offer's expiry, moves it on
    PREPARING = "preparing"  # the runner checks out, mounts inputs, makes the environment
    RUNNING = "running"  # the job's commands run
    SAVING = "saving"  # artifacts and final metrics are being stored
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"
    SKIPPED = "skipped"

    @property
    def is_final(self) -> bool:
        """Final states are never left."""
        return self in FINAL_STATES

    @property
    def is_live(self) -> bool:
        """An attempt holds a machine for it now."""
        return self in LIVE_STATES


FINAL_STATES = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.STOPPED, JobState.SKIPPED})
LIVE_STATES = frozenset({JobState.PREPARING, JobState.RUNNING, JobState.SAVING})


class AttemptState(StrEnum):
    """Where one try of a job stands."""

    PREPARING = "preparing"
    RUNNING = "running"
    SAVING = "saving"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"
    LOST = "lost"  # its lease ran out: the machine vanished
    PREEMPTED = "preempted"  # its machine was taken away with notice

    @property
    def is_final(self) -> bool:
        return self not in (AttemptState.PREPARING, AttemptState.RUNNING, AttemptState.SAVING)


class Reason(StrEnum):
    """Why a job, attempt or run ended otherwise than by plain success; a fixed list."""

    EXIT_CODE = "exit_code"
    TIMEOUT = "timeout"
    OUT_OF_MEMORY = "out_of_memory"
    RUNNER_LOST = "runner_lost"
    PREEMPTED = "preempted"
    CANCELED_BY = "canceled_by"
    SUPERSEDED_BY = "superseded_by"
    DEPENDENCY_FAILED = "dependency_failed"
    NOT_NEEDED = "not_needed"
    CHECKOUT = "checkout"
    ENVIRONMENT = "environment"
    INPUTS = "inputs"
    ARTIFACTS = "artifacts"
    DISK_FULL = "disk_full"
    CONFIG = "config"
    NO_SUCH_TAG = "no_such_tag"


class Trigger(StrEnum):
    """Why a run exists."""

    PUSH = "push"
    PULL_REQUEST = "pull_request"
    COMMENT = "comment"
    SCHEDULE = "schedule"
    TAG_MOVED = "tag-moved"
    EVENT = "event"
    MANUAL = "manual"


class Verdict(StrEnum):
    """What a gate says of a run; a record beside its state, never a state."""

    PENDING = "pending"
    PASSED = "passed"
    FAILED = "failed"
    WITHIN_NOISE = "within_noise"
    NO_BASE = "no_base"
