"""Removes runs that ended long ago, and the blobs, logs and commits that nothing refers to any more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from sqlmodel import Session

from dstack.errors import Invalid
from dstack.server.gateways.forks import forks_of
from dstack.server.gateways.kept import drop_commits, keep_present
from dstack.server.models import Attempt, Run
from dstack.server.store.attempts import attempts_of_jobs
from dstack.server.store.forge_retention import forget_commits, forget_pulls
from dstack.server.store.jobs import jobs_of_runs
from dstack.server.store.repos import list_repos
from dstack.server.store.retention import (
    artifacts_to_prune,
    commits_kept,
    delete_deliveries,
    delete_runs,
    digests_kept,
    prunable_runs,
)
from dstack.server.wiring import Wiring
from dstack.wire.api import PruneRequest, PruneView
from dstack.wire.manifest import decode_manifest

_TOLD_AGAIN_S = 8 * 86400.0  # an Enterprise server of GitHub can send an event again for 7 days
_WAITED_FOR_S = 3600.0  # somebody may still want to hear what became of a delivery this young
_FRESH_S = 24 * 3600  # a blob this young may belong to an artifact still being saved

SLICE = 500  # runs deleted in one unit: what else wants to write waits no longer than for that
FORGOTTEN = 100  # pull requests or commits without a run, in one unit
MAX_DAYS = 36500


def prune(wiring: Wiring, request: PruneRequest) -> PruneView:
    """Tagged runs, runs that others were given artifacts from, those that speak for the present head of a forge's
    branch, and unfinished ones are kept whatever their age; what a forge told us at least for as long as it may tell
    the same again.

    Raises Invalid for an age that cannot be.
    """
    if not 0 <= request.days <= MAX_DAYS:
        raise Invalid(f"days must be 0 to {MAX_DAYS}")
    now = wiring.clock.now()
    before = now - request.days * 86400
    if request.dry_run:
        going = wiring.db.read(lambda s: _all_slices(partial(_choose, s, before)))
    else:
        # Each slice is chosen and deleted in one unit: a tag, or a run that wants their artifacts, comes before or
        # after both. And rows first: a crash now leaves blobs that the next pruning finds, never a row without its
        # bytes. (Their ids are not told to the next slice: a run made meanwhile may have got one of them.)
        going = _all_slices(lambda below, gone: wiring.db.write(lambda s: _delete(s, before, below)))
        told_before = min(before, now - _TOLD_AGAIN_S)
        wiring.db.write(lambda s: delete_deliveries(s, min(before, now - _WAITED_FOR_S), told_before))
        for forget in (forget_pulls, forget_commits):
            while wiring.db.write(partial(forget, before=told_before, limit=FORGOTTEN)) == FORGOTTEN:
                pass
    gone = going.run_ids if request.dry_run else set[int]()
    kept = _blobs_of(wiring, wiring.db.read(lambda s: digests_kept(s, gone)))
    blobs, freed = _prune_blobs(wiring, kept, now, dry_run=request.dry_run)
    freed += _prune_logs(wiring, going.attempts, dry_run=request.dry_run)
    if not request.dry_run:
        _prune_commits(wiring, going.runs)
    return PruneView(len(going.runs), going.artifacts, blobs, freed, request.dry_run)


@dataclass(slots=True)
class _Going:
    """What is old and in nobody's use; `artifacts` is their number. `held` and `below` as of `OldRuns`."""

    runs: list[Run] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    artifacts: int = 0
    held: int = 0
    below: int | None = None

    @property
    def run_ids(self) -> set[int]:
        return {run.id or 0 for run in self.runs}


def _all_slices(take: Callable[[int | None, set[int]], _Going]) -> _Going:
    """Everything, a slice at a time: others may write in between. What a slice held back for a run that went in a
    later one is looked at again."""
    total, gone = _Going(), set[int]()
    while True:
        held, removed, below = 0, 0, None
        while True:
            part = take(below, gone)
            total.runs += part.runs
            total.attempts += part.attempts
            total.artifacts += part.artifacts
            gone |= part.run_ids
            held, removed, below = held + part.held, removed + len(part.runs), part.below
            if below is None:
                break
        if not (held and removed):
            return total


def _choose(session: Session, before: float, below: int | None, gone: set[int]) -> _Going:
    old = prunable_runs(session, before, below=below, gone=gone, limit=SLICE)
    ids = [run.id or 0 for run in old.going]
    attempts = attempts_of_jobs(session, [job.id or 0 for job in jobs_of_runs(session, ids)])
    return _Going(list(old.going), list(attempts), len(artifacts_to_prune(session, ids)), old.held, old.below)


def _delete(session: Session, before: float, below: int | None) -> _Going:
    going = _choose(session, before, below, set())
    delete_runs(session, list(going.run_ids))
    return going


def _blobs_of(wiring: Wiring, manifests: set[str]) -> set[str]:
    found = set(manifests)
    for digest in manifests:
        manifest = decode_manifest(b"".join(wiring.objects.read(digest)))
        found.update(entry.digest for entry in manifest.files if entry.target is None)
    return found


def _prune_blobs(wiring: Wiring, kept: set[str], now: float, *, dry_run: bool) -> tuple[int, int]:
    blobs = freed = 0
    for blob in wiring.objects.stored():
        if blob.digest in kept or blob.used_at >= now - _FRESH_S:
            continue
        # A save that was just told "the store has it" counts on the blob, so only one unused until now goes.
        size = blob.size if dry_run else wiring.objects.delete(blob.digest, unused_since=now - _FRESH_S)
        blobs, freed = blobs + bool(size), freed + size
    if not dry_run:
        freed += wiring.objects.sweep(now - _FRESH_S)
    return blobs, freed


def _prune_logs(wiring: Wiring, attempts: Sequence[Attempt], *, dry_run: bool) -> int:
    act = wiring.logs.size if dry_run else wiring.logs.delete
    return sum(act(attempt.id) for attempt in attempts)


def _prune_commits(wiring: Wiring, gone: Sequence[Run]) -> None:
    """Hold what is left by hidden refs before git may collect, then let go of what went."""
    for repo in wiring.db.read(list_repos):
        repo_id = str(repo.id)
        for git_id in (repo_id, *forks_of(wiring.git, repo_id).values()):
            if not wiring.git.exists(git_id):
                continue
            kept = partial(commits_kept, repo_id=repo.id or 0, objects="" if git_id == repo_id else git_id)
            keep_present(wiring.git, git_id, wiring.db.read(kept))
            drop_commits(wiring.git, git_id, [run.name for run in gone if run.git_id == git_id])
            wiring.git.tidy(git_id, always=True)
