"""The door for a runner's bytes: log, blobs, artifacts out; inputs in."""

from __future__ import annotations

from collections.abc import Set

from sqlmodel import Session
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from dstack.errors import Invalid, NotFound
from dstack.server.bus import log_topic
from dstack.server.failpoints import reach
from dstack.server.models import Attempt
from dstack.server.services.save_artifact import record_artifact
from dstack.server.store.artifacts import artifacts_of_runs
from dstack.server.store.jobs import job_by_id
from dstack.server.store.runs import inputs_of_run, run_by_id
from dstack.server.store.uploads import note_uploads, uploads_of
from dstack.server.web import content
from dstack.server.web.access import Audience
from dstack.server.web.manifests import Kept
from dstack.server.web.operation import Call, Operations
from dstack.server.web.runner_api import held
from dstack.wire.manifest import MAX_MANIFEST_BYTES, Manifest, decode_manifest
from dstack.wire.runner import ArtifactSaved, BlobsMissing, SaveArtifact

operations = Operations()
_ATTEMPT = "/api/v1/attempts/{attempt}"


def _check_lease(call: Call) -> str:
    """The attempt's id, its lease checked on a snapshot: bytes themselves change no state."""
    return call.wiring.db.read(lambda s: held(s, call)).id


def _attempt(call: Call) -> tuple[Attempt, bool]:
    """The same, and whether its run is trusted."""

    def query(session: Session) -> tuple[Attempt, bool]:
        attempt = held(session, call)
        return attempt, run_by_id(session, job_by_id(session, attempt.job_id).run_id).trusted

    return call.wiring.db.read(query)


def _held(call: Call, attempt: Attempt) -> Set[str]:
    """The blobs that an untrusted attempt has sent, or was given as inputs."""
    return call.wiring.db.read(lambda s: uploads_of(s, attempt.id)) | _inputs(call, attempt)


@operations.add("PUT", _ATTEMPT + "/log", Audience.RUNNER, queries=("offset",), is_paced=False)
async def put_log(call: Call) -> Response:
    """Appends the body to the log at `offset`."""
    attempt_id = _check_lease(call)
    answer = await content.put_log(call.request, attempt_id, call.wiring.logs, lambda: _check_lease(call))
    call.wiring.bus.publish([log_topic(attempt_id)])
    return answer


@operations.add("POST", _ATTEMPT + "/blobs/missing", Audience.RUNNER, gives=BlobsMissing)
async def missing(call: Call) -> Response:
    """Which of these blobs the store lacks; to an untrusted attempt, all are but those it has sent or been given."""
    attempt, trusted = _attempt(call)
    return await content.missing(call.request, call.wiring.objects, None if trusted else lambda: _held(call, attempt))


@operations.add("PUT", _ATTEMPT + "/blobs/{digest}", Audience.RUNNER, is_paced=False)
async def put_blob(call: Call) -> Response:
    """Stores one blob."""
    (attempt, trusted), digest = _attempt(call), call.path("digest")
    answer = await content.put_blob(call.request, digest, call.wiring.objects, proves=not trusted)
    if not trusted:
        await call.wiring.db.write_async(lambda s: note_uploads(s, attempt.id, (digest,)))
    return answer


@operations.add("PUT", _ATTEMPT + "/packs", Audience.RUNNER, is_paced=False)
async def put_pack(call: Call) -> Response:
    """Stores many small blobs."""
    attempt, trusted = _attempt(call)

    def note(digests: list[str]) -> None:
        if not trusted:
            call.wiring.db.write(lambda s: note_uploads(s, attempt.id, digests))

    return await content.put_pack(call.request, call.wiring.objects, note)


@operations.add(
    "POST",
    _ATTEMPT + "/artifacts",
    Audience.RUNNER,
    takes=SaveArtifact,
    gives=ArtifactSaved,
    limit=2 * MAX_MANIFEST_BYTES,
)
async def save_artifact(call: Call) -> ArtifactSaved:
    """Makes an artifact visible, once every blob of it is in the store."""
    wiring, now, body = call.wiring, call.wiring.clock.now(), call.body
    _check_lease(call)
    manifest = await run_in_threadpool(_store_manifest, call, body)
    saved = await wiring.db.write_async(lambda s: record_artifact(s, held(s, call), body, manifest, now))
    reach("artifact-before-reply")
    return saved


def _store_manifest(call: Call, body: SaveArtifact) -> Manifest:
    objects, data = call.wiring.objects, body.manifest.encode()
    manifest = decode_manifest(data)
    digests = {entry.digest: entry.size for entry in manifest.files if entry.target is None}
    attempt, trusted = _attempt(call)
    # A digest may be read where anybody reads, and must not open its content: a stranger names only what it had.
    known = digests.keys() if trusted else _held(call, attempt)
    lacking = [digest for digest in digests if digest not in known]
    if lacking := lacking or objects.missing(digests):
        raise Invalid(
            f"the store lacks {len(lacking)} blobs of this artifact", "Ask for the missing ones and send them."
        )
    if wrong := next((d for d, size in digests.items() if objects.size(d) != size), None):
        raise Invalid(f"blob {wrong} has another size than the manifest says")
    objects.put(manifest.digest, data)
    objects.sync()
    return manifest


@operations.add("GET", _ATTEMPT + "/manifests/{digest}", Audience.RUNNER)
async def get_manifest(call: Call) -> Response:
    """The manifest of an input of this attempt."""
    await run_in_threadpool(_check_inputs, call, (call.path("digest"),))
    return await content.get_manifest(call.request, call.path("digest"), call.wiring.objects)


@operations.add("GET", _ATTEMPT + "/blobs/{digest}", Audience.RUNNER, is_paced=False)
async def get_blob(call: Call) -> Response:
    """A blob of an input of this attempt; one range may be asked for."""
    await run_in_threadpool(_check_inputs, call, (call.path("digest"),))
    return await content.get_blob(call.request, call.path("digest"), call.wiring.objects)


@operations.add("POST", _ATTEMPT + "/packs/read", Audience.RUNNER, is_paced=False)
async def get_pack(call: Call) -> Response:
    """Many small blobs of the inputs of this attempt."""
    return await content.get_pack(call.request, call.wiring.objects, lambda digests: _check_inputs(call, digests))


# The digests an attempt may read: its inputs' manifests and their blobs.
_readable: Kept[frozenset[str]] = Kept(len, 200_000, keeps_latest=True)


def _check_inputs(call: Call, digests: tuple[str, ...]) -> None:
    """Raises NotFound for anything but the inputs of this attempt: they are all it may read."""
    attempt = call.wiring.db.read(lambda s: held(s, call))
    if not _inputs(call, attempt).issuperset(digests):
        raise NotFound("that is not an input of this job")


def _inputs(call: Call, attempt: Attempt) -> frozenset[str]:
    return _readable.get(attempt.id, lambda: _input_digests(call, attempt))


def _input_digests(call: Call, attempt: Attempt) -> frozenset[str]:
    def manifests(session: Session) -> list[str]:
        inputs = inputs_of_run(session, job_by_id(session, attempt.job_id).run_id)
        return [a.digest for a in artifacts_of_runs(session, [row.source_id for row in inputs])]

    found = call.wiring.db.read(manifests)
    objects = call.wiring.objects
    files = [f for digest in found for f in decode_manifest(b"".join(objects.read(digest))).files]
    return frozenset(found) | {f.digest for f in files if f.target is None}
